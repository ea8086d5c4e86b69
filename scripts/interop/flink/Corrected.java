import static org.apache.flink.shaded.asm9.org.objectweb.asm.Opcodes.*;

import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.flink.shaded.asm9.org.objectweb.asm.ClassReader;
import org.apache.flink.shaded.asm9.org.objectweb.asm.ClassVisitor;
import org.apache.flink.shaded.asm9.org.objectweb.asm.ClassWriter;
import org.apache.flink.shaded.asm9.org.objectweb.asm.FieldVisitor;
import org.apache.flink.shaded.asm9.org.objectweb.asm.MethodVisitor;

/**
 * Writes two classes of flink-model-triton 2.3.0 into a folder, as they would have to be for a job to start. As released,
 * none does: the check of a model's columns is the wrong way round, and a buffer of the function cannot be serialized with
 * it. What goes over the wire is not touched. Argument: the folder, which goes before the jar on the class path.
 */
public final class Corrected {
  private static final String PACKAGE = "org/apache/flink/model/triton/";
  private static final String FUNCTION = PACKAGE + "TritonInferenceModelFunction";
  private static final String BUFFER = "java/io/ByteArrayOutputStream";

  private Corrected() {}

  public static void main(String[] args) throws Exception {
    write(args[0], PACKAGE + "AbstractTritonModelFunction", false);
    write(args[0], FUNCTION, true);
  }

  private static void write(String folder, String name, boolean isFunction) throws Exception {
    ClassWriter writer = new ClassWriter(ClassWriter.COMPUTE_MAXS);
    ClassVisitor change = isFunction ? new BufferOfEachCopy(writer) : new CheckTheRightWayRound(writer);
    new ClassReader(ClassLoader.getSystemResourceAsStream(name + ".class")).accept(change, 0);
    Path file = Path.of(folder, name + ".class");
    Files.createDirectories(file.getParent());
    Files.write(file, writer.toByteArray());
  }

  private static final class CheckTheRightWayRound extends ClassVisitor {
    CheckTheRightWayRound(ClassVisitor next) {
      super(ASM9, next);
    }

    @Override
    public MethodVisitor visitMethod(int access, String name, String type, String signature, String[] thrown) {
      return new MethodVisitor(ASM9, super.visitMethod(access, name, type, signature, thrown)) {
        @Override
        public void visitLdcInsn(Object value) {
          if (value instanceof String text && text.endsWith("column %s should be %s, but is a %s.")) {
            super.visitInsn(ICONST_1);
            super.visitInsn(IXOR);
          }
          super.visitLdcInsn(value);
        }
      };
    }
  }

  private static final class BufferOfEachCopy extends ClassVisitor {
    BufferOfEachCopy(ClassVisitor next) {
      super(ASM9, next);
    }

    @Override
    public FieldVisitor visitField(int access, String name, String type, String signature, Object value) {
      boolean isBuffer = name.equals("compressionBuffer");
      return super.visitField(isBuffer ? ACC_PRIVATE | ACC_TRANSIENT : access, name, type, signature, value);
    }

    @Override
    public void visitEnd() {
      String stream = "java/io/ObjectInputStream";
      MethodVisitor read = super.visitMethod(ACC_PRIVATE, "readObject", "(L" + stream + ";)V", null, new String[] {"java/io/IOException", "java/lang/ClassNotFoundException"});
      read.visitCode();
      read.visitVarInsn(ALOAD, 1);
      read.visitMethodInsn(INVOKEVIRTUAL, stream, "defaultReadObject", "()V", false);
      read.visitVarInsn(ALOAD, 0);
      read.visitTypeInsn(NEW, BUFFER);
      read.visitInsn(DUP);
      read.visitMethodInsn(INVOKESPECIAL, BUFFER, "<init>", "()V", false);
      read.visitFieldInsn(PUTFIELD, FUNCTION, "compressionBuffer", "L" + BUFFER + ";");
      read.visitInsn(RETURN);
      read.visitMaxs(0, 0);
      read.visitEnd();
      super.visitEnd();
    }
  }
}
