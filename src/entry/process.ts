import './watched.js';

/**
 * First file of a child process. Everything else is imported only once the watchdog thread has begun to start, so that
 * the two start side by side: a restart after a crash is as fast as the slower of them, not as their sum.
 */
await import('./child.js');
