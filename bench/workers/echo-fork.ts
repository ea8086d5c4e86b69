import type { Numbered } from '../peers/numbered.js';

/** Bare fork: one message in, one message out. */
process.on('message', ({ id, value }: Numbered) => process.send?.({ id, value }));
process.on('disconnect', () => process.exit());
