import { EventEmitter } from 'eventemitter3';

/** The door to eventemitter3: lifecycle events with typed payloads. A listener that throws is the listener's problem, see `emitSafely`. */
export { EventEmitter };
