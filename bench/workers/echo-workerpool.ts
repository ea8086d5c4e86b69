import workerpool from 'workerpool';

workerpool.worker({ echo: (input: Float32Array): Float32Array => input });
