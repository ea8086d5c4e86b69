export { defineActor } from './actor/define-actor.js';
export { TroupeError, isTroupeError, ERROR_CODES, type ErrorCode, type Ran } from './kernel/errors.js';
