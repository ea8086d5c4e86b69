import { z } from '../kernel/schema.js';
import { isLoopback } from '../stream/http-listener.js';

/**
 * Sources and sinks that are servers, as they stand in troupe.yaml: the options of fromHttp, toRedis and the others, as
 * far as they can be written down. Defaults are theirs, so that they stand in one place.
 */

const atLeast = (least: number) => z.number().int().min(least);
const text = z.string().min(1);
const port = z.number().int().min(0).max(65_535);
const unixSocket = text
  .optional()
  .describe(
    'Unix socket to listen at, in a directory that nobody else can enter. Relative paths start at the folder of the config file.',
  );

const backoff = (what: string) =>
  z
    .strictObject({
      attempts: atLeast(1).optional().describe('Tries in a row before it counts as failed.'),
      backoffMs: z.number().min(0).optional().describe('Wait after the first failure; doubled after each.'),
      maxBackoffMs: z.number().min(0).optional().describe('Longest wait between two tries.'),
    })
    .optional()
    .describe(what);

const listen = {
  port: port.describe('Port to listen at; 0 takes a free one.'),
  host: text.optional().describe('Address to listen at; 127.0.0.1 without it. Anything but loopback needs a token.'),
  path: text.optional().describe('The one path there is; / without it.'),
  token: z.string().min(16).optional().describe('Asked for as Authorization: Bearer TOKEN; write it as ${VARIABLE}.'),
  hosts: z.array(text).optional().describe('Further names by which clients may address the listener.'),
  origins: z.array(text).optional().describe('Origins of web pages that may use it; none without it.'),
};

const headers = z.record(text, z.string()).optional().describe('Sent with every request; a token goes here.');
const reconnect = backoff('Of a connection that broke.');
const redisUrl = text.describe('redis://[user:password@]host[:port][/db], or rediss for TLS.');
const connection = text.describe('postgres://[user:password@]host[:port]/database.');
const table = text.describe('table, or schema.table.');
const createTable = z.boolean().optional().describe('Makes the table where it is missing; not without it.');

/** `port` and the others as in `listen`; what else is served and from which pages is not for the config to say. */
export const metricsSchema = z
  .strictObject({
    port: port.default(9464).describe('Port to listen at; 0 takes a free one.'),
    host: listen.host,
    token: listen.token,
    hosts: listen.hosts,
    page: z
      .boolean()
      .default(false)
      .describe(
        'Serves a page to watch the system at / of the same port; loopback only. It may change it with control.',
      ),
  })
  .superRefine(({ page, host = '127.0.0.1' }, context) => {
    if (!page || isLoopback(host)) return;
    const message = `the page is served at a loopback address only, such as 127.0.0.1; for others put a proxy with TLS and a login before it`;
    context.addIssue({ code: 'custom', path: ['page'], message });
  });

/** As `metricsSchema`. What is left out is as in `ServeOptions`, so that the defaults stand in one place. */
export const serveSchema = z.strictObject({
  port: port
    .optional()
    .describe('Port to listen at; 0 takes a free one. 8000 without it, or none where there is a socket or a lane.'),
  host: text
    .optional()
    .describe('Address to listen at; 127.0.0.1 without it. Anything but loopback needs tls and tokens.'),
  hosts: listen.hosts,
  socket: unixSocket,
  grpc: z
    .strictObject({
      port: port
        .optional()
        .describe('Port to listen at; 0 takes a free one. 8001 without it, or none where there is a socket.'),
      socket: unixSocket,
    })
    .optional()
    .describe('gRPC beside HTTP, with the same host, hosts, tls, tokens and limits; {} is port 8001. None without it.'),
  lane: text
    .optional()
    .describe(
      'Unix socket for connect() of other Troupe processes, in a directory that nobody else can enter. Relative paths start at the folder of the config file.',
    ),
  tls: z
    .strictObject({
      cert: text.describe('PEM file of the certificate. Relative paths start at the folder of the config file.'),
      key: text.describe('PEM file of its key. Relative paths start at the folder of the config file.'),
      ca: text
        .optional()
        .describe(
          'PEM file: clients must show a certificate of this authority. Relative paths start at the folder of the config file.',
        ),
    })
    .optional()
    .describe('TLS at the ports; plain HTTP and gRPC without it.'),
  tokens: z
    .strictObject({
      infer: z.array(z.string().min(16)).optional().describe('Each allows inference; write them as ${VARIABLE}.'),
      admin: z
        .array(z.string().min(16))
        .optional()
        .describe('Each allows everything, the loading of models too, which nobody may without one.'),
    })
    .optional()
    .describe('Asked for as Authorization: Bearer TOKEN.'),
  nonFinite: z
    .enum(['bare', 'refuse'])
    .optional()
    .describe('NaN and the infinities in JSON: bare words (the default), or refused.'),
  maxBodyBytes: atLeast(1).optional().describe('Most bytes of a body, also inflated, and of an answer; 67,108,864.'),
  capacityBytes: atLeast(1).optional().describe('Most bytes of unanswered requests; 268,435,456 without it.'),
  maxRecords: atLeast(1).optional().describe('Most records in one request; 65,536 without it.'),
  maxConnections: atLeast(1).optional().describe('Most connections at once; 1024 without it.'),
  timeoutMs: z.number().positive().optional().describe('Longest that a request may take; 60,000 without it.'),
});

export const serviceSources = {
  http: z
    .strictObject({
      ...listen,
      acknowledge: z
        .enum(['result', 'checkpoint'])
        .optional()
        .describe('result (the default): answers with what became of the records. checkpoint: with their number.'),
      maxBodyBytes: atLeast(1).optional().describe('Most bytes of a body; 8,388,608 without it.'),
      capacity: atLeast(1).optional().describe('Most records that wait to be read; 1024 without it.'),
      capacityBytes: atLeast(1).optional().describe('Most bytes of unanswered requests; 67,108,864 without it.'),
      waitMs: z.number().min(0).optional().describe('How long a request waits for room before 503; 0 without it.'),
      answerTimeoutMs: z.number().positive().optional().describe('How long a request waits for its outcome; 60,000.'),
    })
    .optional()
    .describe('Records that are posted: JSON, or NDJSON. Runs until it is stopped.'),
  sse: z
    .strictObject({
      url: text.describe('Address of the event stream.'),
      headers,
      lastEventId: text.optional().describe('Begins after this event, where the server still has it.'),
      format: z.enum(['json', 'text']).optional().describe('What the data of an event is; json without it.'),
      events: z.array(text).optional().describe('Only events of these types; all without it.'),
      replayable: z.boolean().optional().describe('false where the server gives no ids.'),
      reconnect: z.boolean().optional().describe('false: the end of a connection ends the source.'),
      retry: backoff('Of connections that fail.'),
      idleTimeoutMs: z.number().positive().optional().describe('A silent connection is made anew after this; 90,000.'),
    })
    .optional()
    .describe('Server-Sent Events of a server.'),
  redis: z
    .strictObject({
      url: redisUrl,
      stream: text.describe('Name of the stream.'),
      group: text.describe('Consumer group; made where it is missing.'),
      consumer: text.describe('Names this reader within the group, the same after a restart.'),
      format: z.enum(['json', 'fields']).optional().describe('json: one field as JSON. fields: all of them; json.'),
      field: text.optional().describe('The field that holds the JSON; value without it.'),
      start: z.enum(['oldest', 'newest']).optional().describe('Where a new group begins; oldest without it.'),
      claimIdleMs: z.number().positive().optional().describe('Takes over what any consumer has held this long; never.'),
      maxDeliveries: atLeast(1).optional().describe('An entry given more often fails; 5 without it.'),
      endWhenEmpty: z.boolean().optional().describe('Ends when all is read, instead of waiting for more.'),
      reconnect,
    })
    .optional()
    .describe('A Redis stream, read by a consumer group. Needs the package redis.'),
  postgres: z
    .strictObject({
      connection,
      table,
      createTable,
      valueColumn: text.optional().describe('Column of the value; value without it.'),
      consumer: text.optional().describe('Names this reader, the same after a restart.'),
      leaseMs: z.number().positive().optional().describe('How long a row stays claimed by a silent reader; 60,000.'),
      maxAttempts: atLeast(1).optional().describe('A row claimed more often fails; 5 without it.'),
      retryDelayMs: z.number().min(0).optional().describe('Wait of a row whose record failed; 1000 without it.'),
      pollMs: z.number().positive().optional().describe('How often an empty table is looked at; 1000 without it.'),
      channel: text.optional().describe('Channel whose NOTIFY says that there is more.'),
      keepDone: z.boolean().optional().describe('Rows that are done stay, with done_at, instead of being deleted.'),
      endWhenEmpty: z.boolean().optional().describe('Ends when there is no row, instead of waiting for more.'),
      reconnect,
    })
    .optional()
    .describe('A PostgreSQL table as a queue. Needs the package pg.'),
};

export const serviceSinks = {
  http: z
    .strictObject({
      url: text.describe('Where results are posted.'),
      headers,
      batch: atLeast(1).optional().describe('Most records of one POST; 100 without it. 1 sends the value itself.'),
      format: z.enum(['json', 'ndjson']).optional().describe('Body of more than one record; json without it.'),
      timeoutMs: z.number().positive().optional().describe('How long one request may take; 30,000 without it.'),
      retry: backoff('Of requests that time out or get 408, 425, 429 or 5xx.'),
    })
    .optional()
    .describe('A webhook.'),
  sse: z
    .strictObject({
      ...listen,
      event: text.optional().describe('Type of the events; none without it.'),
      history: atLeast(1).optional().describe('Most events kept for clients that come back; 1000 without it.'),
      maxClients: atLeast(1).optional().describe('A further client is answered 503; 100 without it.'),
      heartbeatMs: z.number().positive().optional().describe('A comment is sent this often; 15,000 without it.'),
    })
    .optional()
    .describe('Serves every result as a Server-Sent Event.'),
  redis: z
    .strictObject({
      url: redisUrl,
      stream: text.describe('Name of the stream.'),
      field: text.optional().describe('Field that takes the value as JSON; value without it.'),
      maxLength: atLeast(1).optional().describe('Old entries go beyond about this many; all stay without it.'),
      remember: atLeast(1).optional().describe('How many records back a second writing is known; 100,000 without it.'),
      reconnect,
    })
    .optional()
    .describe('Adds results to a Redis stream. Needs the package redis.'),
  postgres: z
    .strictObject({
      connection,
      table,
      createTable,
      keyColumn: text.optional().describe('Column of the key, with a unique index; key without it.'),
      valueColumn: text.optional().describe('Column that takes the whole value; value without it.'),
      columns: z.array(text).min(1).optional().describe('Takes these fields of the value, each into its column.'),
      channel: text.optional().describe('Channel that is NOTIFYed after each write.'),
      reconnect,
    })
    .optional()
    .describe('Inserts results into a PostgreSQL table. Needs the package pg.'),
};
