import type { ExecutionContext } from 'ava';
import { formatConformance, type ConformanceReport } from '../../../src/testing/index.js';

/** Fails the test with the whole report; `applied` guards against a kit that checks nothing. */
export function conforms(t: ExecutionContext, report: ConformanceReport, applied: number): void {
  const passed = report.checks.filter(({ outcome }) => outcome === 'passed').length;
  t.true(report.passed, formatConformance(report));
  t.is(passed, applied, formatConformance(report));
}
