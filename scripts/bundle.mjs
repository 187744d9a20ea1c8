#!/usr/bin/env node
/**
 * Bundles each program and each Worker into one file of dist/run, with V8's code cache beside it: a start reads two files
 * and compiles nothing, instead of looking for and compiling some 300 modules. scripts/run-bundle.cjs is the other half.
 * Part of `npm run build:ts`; what tsc compiled stays for tests, and for whoever runs only tsc (scripts/link-bins).
 */
import { build } from 'esbuild'
import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { setFlagsFromString } from 'node:v8'
import { Script } from 'node:vm'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const run = join(root, 'dist/run')

const ENTRIES = {
  nydusd: 'tools/nydusd.ts',
  'nydus-image': 'tools/nydus-image.ts',
  'lane-worker': 'lib/fuse/lane-worker.ts',
  'export-worker': 'lib/image/export-worker.ts',
  // Large and not always needed: both programs load it when they talk HTTP.
  undici: 'node_modules/undici/index.js',
}

/** Loaded from node_modules: native addons, packages with files beside their code, and what is large and rare. */
const EXTERNAL = ['@napi-rs/*', '@node-rs/*', 'zstd-napi', 'sql.js', 'ali-oss', 'pino-pretty']

const undiciApart = {
  name: 'undici-apart',
  setup: bundle => bundle.onResolve({ filter: /^undici$/ }, () => ({ path: './undici.cjs', external: true })),
}

/** Slow to load, and at a start needed late or never: loaded when one of their members is used. */
const LATE = /^(?:(?:node:)?(?:child_process|crypto|http|zlib)|@node-rs\/crc32)$/

const lateLoading = {
  name: 'late-loading',
  setup(bundle) {
    const require = createRequire(import.meta.url)
    bundle.onResolve({ filter: LATE }, ({ path, namespace }) =>
      namespace === 'late' ? { path, external: true } : { path, namespace: 'late' },
    )
    bundle.onLoad({ filter: /^/, namespace: 'late' }, ({ path }) => {
      const members = Object.keys(require(path)).map(name => `get ${name}() { return load().${name} }`)
      return {
        contents: `let loaded; const load = () => loaded ??= require('${path}'); module.exports = { ${members.join()} }`,
        resolveDir: root,
      }
    })
  },
}

/** Bundled packages by name, with their folders. */
const packages = new Map()
function note(inputs) {
  for (const path of Object.keys(inputs)) {
    const [folder, name] = /^.*node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path) ?? []
    if (name !== undefined) packages.set(name, folder)
  }
}

/** What the licences of the bundled packages ask for: their text goes with the code. */
function licences() {
  return [...packages]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, folder]) => {
      const { version, license } = JSON.parse(readFileSync(join(root, folder, 'package.json'), 'utf8'))
      const file = ['LICENSE', 'LICENSE.md', 'license', 'LICENSE.txt'].map(at => join(root, folder, at))
      let text = ''
      for (const at of file)
        try {
          text ||= readFileSync(at, 'utf8').trim()
        } catch {
          // Another of its names.
        }
      return `${name} ${version}, ${license}\n\n${text}\n`
    })
    .join(`\n${'-'.repeat(80)}\n\n`)
}

/** Programs may start while this runs: they see a file as it was or as it will be. */
function replace(file, content) {
  const fresh = join(run, `.${file}.${process.pid}`)
  writeFileSync(fresh, content)
  renameSync(fresh, join(run, file))
}

/**
 * V8's code cache of a bundle with all its functions, not only those that run at once, which is what V8 compiles without
 * being told. V8 does not look whether cache and source belong together (only at the length), so both end with the same
 * digest.
 */
function compiled(name, source) {
  setFlagsFromString('--no-lazy')
  const script = new Script(source, { filename: join(run, `${name}.bundle.js`) })
  // The cache holds the flags that it was made with, and a start has others if these stay.
  setFlagsFromString('--lazy')
  return script.createCachedData()
}

const { metafile, outputFiles } = await build({
  absWorkingDir: root,
  entryPoints: ENTRIES,
  outdir: run,
  write: false,
  outExtension: { '.js': '.bundle.js' },
  bundle: true,
  platform: 'node',
  target: 'node20.18',
  format: 'cjs',
  // import() of what is external becomes require(), which needs nothing of the loader of ES modules.
  supported: { 'dynamic-import': false },
  external: EXTERNAL,
  plugins: [undiciApart, lateLoading],
  define: { 'import.meta.url': '__bundleUrl' },
  banner: {
    js: "(function (exports, require, module, __filename, __dirname) { const __bundleUrl = require('node:url').pathToFileURL(__filename).href;",
  },
  footer: { js: '})' },
  sourcemap: 'external',
  sourcesContent: false,
  legalComments: 'none',
  // Names stay; comments go, where alone there is anything but ASCII.
  charset: 'ascii',
  minifyWhitespace: true,
  minifySyntax: true,
  metafile: true,
  logLevel: 'warning',
})
note(metafile.inputs)
mkdirSync(run, { recursive: true })
const contents = new Map(outputFiles.map(file => [basename(file.path), file.text]))
for (const name of Object.keys(ENTRIES)) {
  const code = contents.get(`${name}.bundle.js`)
  if (/[^\t\n -~]/.test(code)) throw new Error(`${name}: run-bundle.cjs reads ASCII, and this is more`)
  const digest = createHash('sha256').update(code).digest('hex')
  const source = `${code}// ${digest}`
  replace(`${name}.bundle.js.map`, contents.get(`${name}.bundle.js.map`))
  replace(`${name}.bundle.cache`, Buffer.concat([compiled(name, source), Buffer.from(digest)]))
  replace(`${name}.bundle.js`, source)
  replace(`${name}.cjs`, readFileSync(join(root, 'scripts/run-bundle.cjs')))
}
replace('LICENSES.txt', licences())
// Of programs that are no more; what another build is writing begins with a dot.
for (const file of readdirSync(run))
  if (/^[^.]+\./.test(file) && file !== 'LICENSES.txt' && !(file.split('.')[0] in ENTRIES))
    rmSync(join(run, file))
