/**
 * What actors for models behind a server are made of, public as `troupe/remote`: an endpoint that is guarded, tried again
 * and never trusted, and a client of the Open Inference Protocol. Apart from `troupe/actor`, because actors that ask
 * nobody need not load HTTP.
 */
export { FetchRefused, guardedFetch, type GuardedFetch, type GuardedFetchOptions } from './guarded-fetch.js';
export { GrpcEndpoint, type GrpcQuestion, type GrpcRefusal } from './grpc-endpoint.js';
export type { GrpcReply } from './grpc-channel.js';
export { OipClient, type OipClientOptions } from './oip-client.js';
export { openEndpoint } from './open-endpoint.js';
export { RemoteEndpoint, type RemoteCall } from './remote-endpoint.js';
export { REMOTE_KEYS, type RemoteCounts, type RemoteOptions } from './remote-options.js';
export type { GuardedReply } from './guarded-http.js';
