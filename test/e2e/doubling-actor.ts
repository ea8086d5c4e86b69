/** Served by tests that need a server in a process of its own. */
export { doubler as default } from '../serve/oip-stand.js';
