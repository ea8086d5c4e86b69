import { doublerAfter } from '../serve/oip-stand.js';

/** Takes so long that a server that is killed has batches under way. */
export default doublerAfter(() => new Promise((resolve) => setTimeout(resolve, 10)));
