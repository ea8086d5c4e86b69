import { isLoopback, tokenCheck } from '../stream/http-listener.js';
import type { ResolvedServe } from './serve-options.js';

export type Scope = 'open' | 'infer' | 'admin';

export type Admits = (bearer: string | undefined) => boolean | 'scope';

/** Who may do what, by bearer token. Every token is compared, whichever it is: the time taken tells nothing. */
export function accessOf({ tokens, host, port, grpc }: ResolvedServe): Readonly<Record<Scope, Admits>> {
  const infer = tokens.infer.map(tokenCheck);
  const admin = tokens.admin.map(tokenCheck);
  const isOneOf = (checks: readonly Admits[], bearer: string | undefined): boolean =>
    checks.filter((check) => check(bearer)).length > 0;
  const hasTcp = port !== undefined || grpc?.port !== undefined;
  // Nobody else can reach a private socket, or a loopback port.
  const isOpen = infer.length === 0 && (!hasTcp || isLoopback(host));
  const known = [...infer, ...admin];
  return {
    open: () => true,
    infer: (bearer) => isOpen || isOneOf(known, bearer),
    admin: (bearer) => isOneOf(admin, bearer) || (isOpen || isOneOf(known, bearer) ? 'scope' : false),
  };
}
