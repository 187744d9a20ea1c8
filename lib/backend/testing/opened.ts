/** Backends in a test's hands: with the defaults of a configuration but for `options`, silent, closed when the test is over. */
import type { BlobReader, HttpProxyOptions, RegistryOptions } from '../backend.js'
import type { Seams } from '../http.js'
import { openHttpProxy } from '../http-proxy.js'
import { openRegistry } from '../registry.js'
import { context, httpDefaults, registryDefaults, testSeams } from './fixtures.js'
import { sha256 } from '../../../vm-tests/manifest.js'

interface Ending {
  teardown(end: () => unknown): void
}

export function openedRegistry(t: Ending, options: Partial<RegistryOptions>, seams: Seams = testSeams()) {
  const registry = { ...registryDefaults, ...options }
  const backend = openRegistry({ type: 'registry', registry }, context, seams)
  t.teardown(() => backend.close())
  return backend
}

export function openedHttpProxy(
  t: Ending,
  options: Partial<HttpProxyOptions> & { readonly addr: string },
  seams: Seams = testSeams(),
) {
  const settings = { ...httpDefaults, path: '', ...options }
  const backend = openHttpProxy({ type: 'http-proxy', 'http-proxy': settings }, context, seams)
  t.teardown(() => backend.close())
  return backend
}

/** Reads the whole blob in ranges of `step` bytes, all at once, and asserts its digest; how many reads it took. */
export async function checkWhole(
  t: { equal(found: string, wanted: string, about: string): unknown },
  reader: BlobReader,
  step = 37_111,
): Promise<number> {
  const into = Buffer.alloc(await reader.size())
  const reads: Promise<void>[] = []
  for (let at = 0; at < into.length; at += step)
    reads.push(reader.read(into.subarray(at, Math.min(at + step, into.length)), at))
  await Promise.all(reads)
  t.equal(sha256(into), reader.blobId, `${reads.length} reads`)
  return reads.length
}
