#!/usr/bin/env node
// Fails on an import against the flow (docs/architecture.md). A file of lib/X may import its own folder, lib/base,
// the border to the addon, and of other folders only what FLOW names. lib/daemon and the file that a lane's Worker
// runs wire everything and are imported by nobody; tests may import what they like.
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')

/** Folder of lib -> what it may import besides itself and base: folders, or single files as interfaces. */
const FLOW = {
  base: [],
  backend: [],
  cache: ['backend/backend.ts'],
  rafs: ['cache/cache.ts', 'cache/layout.ts', 'vfs/filesystem.ts'],
  vfs: [],
  fuse: ['vfs/filesystem.ts'],
  build: ['rafs/layout', 'rafs/image.ts', 'cache/cache.ts', 'cache/layout.ts', 'vfs/filesystem.ts'],
  image: ['build', 'cache', 'backend', 'rafs/image.ts', 'rafs/layout', 'vfs/filesystem.ts'],
  oci: ['backend'],
}

/** What both sides of the border to the addon see. */
const BORDER = ['native.ts', 'fuse/ring.ts']
const WIRING = ['daemon', 'fuse/lane-worker.ts']

const imports = /^(?:import|export)\s[^'"]*?from\s*['"](\.[^'"]+)['"]|\bimport\(\s*['"](\.[^'"]+)['"]/gm
const problems = []

const within = (path, place) => path === place || path.startsWith(`${place}/`)

function check(file) {
  const name = relative(join(root, 'lib'), file)
  const [folder] = name.split('/')
  for (const [, first, second] of readFileSync(file, 'utf8').matchAll(imports)) {
    const target = relative(join(root, 'lib'), normalize(join(dirname(file), first ?? second))).replace(
      /\.js$/,
      '.ts',
    )
    const fine = WIRING.some(place => within(name, place))
      ? !target.startsWith('..')
      : [folder, 'base', ...BORDER, ...(FLOW[folder] ?? [])].some(place => within(target, place))
    if (!fine) problems.push(`lib/${name} imports lib/${target}: against the flow`)
  }
}

for (const entry of readdirSync(join(root, 'lib'), { recursive: true, withFileTypes: true })) {
  const file = join(entry.parentPath, entry.name)
  const inFolder = relative(join(root, 'lib'), file).includes('/')
  if (inFolder && file.endsWith('.ts') && !/\.test\.ts$|\/testing\//.test(file)) check(file)
}
for (const problem of problems) console.error(problem)
process.exitCode = problems.length === 0 ? 0 : 1
