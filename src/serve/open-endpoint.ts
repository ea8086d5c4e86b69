import type { Resolve } from './address-guard.js';
import { GrpcEndpoint } from './grpc-endpoint.js';
import { RemoteEndpoint } from './remote-endpoint.js';
import type { RemoteOptions } from './remote-options.js';

/**
 * The server at an address, over HTTP (`http`, `https`) or gRPC (`grpc`, `grpcs`). `where` begins the messages; wrong options
 * throw a TypeError naming the option.
 */
export function openEndpoint(
  where: string,
  option: string,
  url: unknown,
  options: RemoteOptions,
  resolve?: Resolve,
): RemoteEndpoint | GrpcEndpoint {
  if (typeof url === 'string' && /^grpcs?:/i.test(url)) return new GrpcEndpoint(where, option, url, options, resolve);
  return new RemoteEndpoint(where, option, url, options, resolve);
}
