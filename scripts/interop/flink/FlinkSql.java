import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.Array;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.TableResult;
import org.apache.flink.types.Row;
import org.apache.flink.util.CloseableIterator;

/**
 * Runs SQL on Apache Flink: one statement a line on stdin, each a job on a cluster of this process, and one line of JSON on
 * stdout for each: {"rows": [[...]]}, or {"error": "..."} with what was at the bottom of the exception.
 */
public final class FlinkSql {
  private FlinkSql() {}

  public static void main(String[] args) throws Exception {
    PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    TableEnvironment flink = TableEnvironment.create(EnvironmentSettings.newInstance().inStreamingMode().build());
    flink.getConfig().set("parallelism.default", "1");
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String statement = in.readLine(); statement != null; statement = in.readLine()) {
      out.println(answer(flink, statement));
    }
    // Threads of the HTTP clients would keep the process.
    System.exit(0);
  }

  private static String answer(TableEnvironment flink, String statement) {
    try {
      TableResult result = flink.executeSql(statement);
      List<String> rows = new ArrayList<>();
      if (result.getResultKind().name().equals("SUCCESS_WITH_CONTENT")) {
        try (CloseableIterator<Row> iterator = result.collect()) {
          while (iterator.hasNext()) {
            Row row = iterator.next();
            Object[] fields = new Object[row.getArity()];
            for (int i = 0; i < fields.length; i++) fields[i] = row.getField(i);
            rows.add(json(fields));
          }
        }
      }
      return "{\"rows\": [" + String.join(", ", rows) + "]}";
    } catch (Throwable thrown) {
      Throwable cause = thrown;
      while (cause.getCause() != null && cause.getCause() != cause) cause = cause.getCause();
      return "{\"error\": " + json(cause.getClass().getSimpleName() + ": " + cause.getMessage()) + "}";
    }
  }

  /** 64-bit integers, NaN and the infinities as strings: they come through whatever reads it. */
  private static String json(Object value) {
    if (value == null || value instanceof Boolean) return String.valueOf(value);
    if (value.getClass().isArray()) {
      List<String> parts = new ArrayList<>();
      for (int i = 0; i < Array.getLength(value); i++) parts.add(json(Array.get(value, i)));
      return "[" + String.join(", ", parts) + "]";
    }
    if (value instanceof Number number && !(value instanceof Long) && Double.isFinite(number.doubleValue())) {
      return value.toString();
    }
    StringBuilder text = new StringBuilder("\"");
    for (char c : value.toString().toCharArray()) {
      if (c == '"' || c == '\\') text.append('\\').append(c);
      else if (c < ' ') text.append(String.format("\\u%04x", (int) c));
      else text.append(c);
    }
    return text.append('"').toString();
  }
}
