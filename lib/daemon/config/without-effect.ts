/** What stands in a configuration and has no effect, in sentences for the log; none of them holds a value. */
import type { ExternalBackend } from './types.js'

/** `external`: the external backends, under the key that they were given with. */
export function withoutEffect(
  where: string,
  unknownKeys: readonly string[],
  external: Readonly<Record<string, readonly ExternalBackend[]>>,
): string[] {
  const sentences: string[] = []
  if (unknownKeys.length > 0)
    sentences.push(
      `${where} has keys that are not known and have no effect: ${[...unknownKeys].sort().join(', ')}`,
    )
  for (const [key, backends] of Object.entries(external))
    if (backends.length > 0)
      sentences.push(
        `${where} has ${key}, which have no effect: data that an image keeps elsewhere (blobs marked EXTERNAL) is ` +
          'looked for in `backend` as all other blobs are; put those blobs there',
      )
  return sentences
}
