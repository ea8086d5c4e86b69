# frozen_string_literal: true

require "json"
require "logger"

module Pocket
  class Worker
    attr_reader :name, :jobs

    def initialize(name, logger: Logger.new($stdout))
      @name = name
      @jobs = []
      @logger = logger
    end

    def run
      until jobs.empty?
        job = jobs.shift
        @logger.info("#{name}: #{job}")
        yield job if block_given?
      end
    end
  end
end
