import { Request, type RequestRules } from '../../src/core/request.js';

/** A source of requests with ids from 1; every rule has a plain default. */
export function requestMaker(defaults: Partial<RequestRules> = {}): (rules?: Partial<RequestRules>) => Request {
  let lastId = 0;
  return (rules = {}) => {
    lastId += 1;
    return new Request({
      id: lastId,
      input: `input ${lastId}`,
      owner: undefined,
      sender: 1,
      priority: 0,
      bucket: '',
      bytes: 1,
      weight: 1,
      offeredAt: 0,
      deadlineAt: Infinity,
      ...defaults,
      ...rules,
    });
  };
}

export const ids = (requests: readonly Request[]): number[] => requests.map((request) => request.id);
