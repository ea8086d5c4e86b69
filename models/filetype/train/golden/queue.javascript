'use strict';

const { EventEmitter } = require('node:events');

// A bounded queue: push says false when the reader has to catch up first.
class Queue extends EventEmitter {
  constructor(limit = 16) {
    super();
    this.limit = limit;
    this.items = [];
  }

  push(item) {
    this.items.push(item);
    this.emit('item');
    return this.items.length < this.limit;
  }

  async next() {
    while (this.items.length === 0) {
      await new Promise((resolve) => this.once('item', resolve));
    }
    return this.items.shift();
  }
}

module.exports = { Queue };
