import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import path from 'node:path';
import { STYLE } from './style.js';

/** A file of the page, as it is sent. */
export interface Asset {
  readonly path: string;
  readonly type: string;
  readonly text: string;
}

/** Everything is of ours and from here: no script, style, image or connection of anybody else, nothing inline, no framing. */
export const SECURITY_HEADERS = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'permissions-policy': 'camera=(), geolocation=(), microphone=()',
  'referrer-policy': 'no-referrer',
  'x-frame-options': 'DENY',
} as const;

const HTML = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Troupe</title>
<link rel="icon" href="/page/icon.svg">
<link rel="stylesheet" href="/page/page.css">
<script type="module" src="/page/browser/main.js"></script>
</head>
<body>
<noscript>This page draws itself with JavaScript. Without it: /metrics, or npx troupe top in a terminal.</noscript>
</body>
</html>
`;

const ICON = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#2563eb"/><circle cx="16" cy="9" r="4" fill="#fff"/><circle cx="8" cy="22" r="4" fill="#fff" opacity=".8"/><circle cx="24" cy="22" r="4" fill="#fff" opacity=".8"/><path d="M14 12l-4 7M18 12l4 7M12 22h8" stroke="#fff" stroke-width="1.6"/></svg>
`;

/** The page and all it is made of. The scripts are what the compiler made of browser/. */
export function pageAssets(): readonly Asset[] {
  const folder = fileURLToPath(new URL('browser/', import.meta.url));
  const scripts = readdirSync(folder)
    .filter((name) => /^[a-z-]+\.js$/.test(name))
    .map((name) => ({
      path: `/page/browser/${name}`,
      type: 'text/javascript; charset=utf-8',
      text: readFileSync(path.join(folder, name), 'utf8'),
    }));
  return [
    { path: '/', type: 'text/html; charset=utf-8', text: HTML },
    { path: '/page/page.css', type: 'text/css; charset=utf-8', text: STYLE },
    { path: '/page/icon.svg', type: 'image/svg+xml', text: ICON },
    // What both sides go by; the scripts ask for it by ../state.js.
    {
      path: '/page/state.js',
      type: 'text/javascript; charset=utf-8',
      text: readFileSync(path.join(folder, '../state.js'), 'utf8'),
    },
    ...scripts,
  ];
}
