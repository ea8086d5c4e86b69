import { doublerAfter } from '../serve/oip-stand.js';

/** Takes long enough for a signal to come while a batch runs. */
export default doublerAfter(() => new Promise((resolve) => setTimeout(resolve, 500)));
