export default {
  files: ['dist/test/**/*.test.js'],
  require: ['./dist/test/prototype-guard.js'],
  workerThreads: false,
  concurrency: 2,
  timeout: '2m',
};
