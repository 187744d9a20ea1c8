/** A zstd file: one or many frames. */
import { DecodedSource, type Decoder } from './decoded-source.js'

/** zstd-napi's low-level context; the streams of that package keep all that a piece of input expands to. */
async function decoder(): Promise<Decoder> {
  const { default: binding } = await import('zstd-napi/binding.js')
  const context = new binding.DCtx()
  const state = {
    name: 'zstd',
    taken: 0,
    written: 0,
    complete: false,
    pending: false,
    step(src: Uint8Array, dst: Uint8Array): void {
      const [left, written, taken] = context.decompressStream(dst, src)
      // A call that does nothing says nothing of the frame either.
      if (taken > 0 || written > 0) state.complete = left === 0
      state.taken = taken
      state.written = written
      state.pending = written === dst.length && left !== 0
    },
  }
  return state
}

export async function openZstd(
  name: string,
  pieces: AsyncIterable<Uint8Array>,
): Promise<DecodedSource<Decoder>> {
  return new DecodedSource(name, pieces, await decoder())
}
