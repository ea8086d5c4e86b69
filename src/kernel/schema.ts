import { z } from 'zod';

/** The door to zod: option objects and the config file are validated by schemas built with this `z` and nothing else. */
export { z };

/** Where a value may be one of several things and is a map, what is wrong in the map says more than that it is none of them. */
export function plainIssues(issues: readonly z.core.$ZodIssue[]): readonly z.core.$ZodIssue[] {
  return issues.flatMap((issue) => {
    if (issue.code !== 'invalid_union') return [issue];
    const inner = issue.errors.filter((branch) =>
      branch.every(({ code, path }) => code === 'unrecognized_keys' || path.length > 0),
    );
    const [only, ...others] = inner;
    if (only === undefined || others.length > 0) return [issue];
    return plainIssues(only).map((one) => ({ ...one, path: [...issue.path, ...one.path] }));
  });
}
