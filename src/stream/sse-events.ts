/** Type of the event by which `toSse` tells a client that events after its Last-Event-ID are gone. */
export const GAP_EVENT = 'troupe-gap';
