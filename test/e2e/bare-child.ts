/** A child that does nothing but say that it is up: what every start of a process costs on this machine, now. */
process.send?.('up');
process.disconnect?.();
