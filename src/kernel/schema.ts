/** The door to zod: option objects and the config file are validated by schemas built with this `z` and nothing else. */
export { z } from 'zod';
