/** The worker file of piscina and tinypool. */
export { run as default } from './task.js';
