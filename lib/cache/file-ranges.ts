/** Ranges of a sparse file, and the whole pages in them: what can be given back to the disk. */

const PAGE = 4096

/** Bytes `start` to `end` - 1 of a file. */
export interface ByteRange {
  readonly start: number
  readonly end: number
}

const byStart = (a: ByteRange, b: ByteRange): number => a.start - b.start

/** Pages of which all bytes are in the range; `end` is not above `start` when there are none. */
function wholePages({ start, end }: ByteRange): ByteRange {
  return { start: Math.ceil(start / PAGE) * PAGE, end: Math.floor(end / PAGE) * PAGE }
}

/** Bytes of the pages that it touches. */
export function bytesOfPages({ start, end }: ByteRange): number {
  return (Math.ceil(end / PAGE) - Math.floor(start / PAGE)) * PAGE
}

/**
 * Whole pages of ranges next to each other, in order. `alignment`: what is behind the end of a range up to the next
 * multiple of so many bytes belongs to it.
 */
export function pagesOf(ranges: readonly ByteRange[], alignment: number): ByteRange[] {
  const runs: { start: number; end: number }[] = []
  for (const { start, end } of ranges.toSorted(byStart)) {
    const padded = Math.ceil(end / alignment) * alignment
    const last = runs.at(-1)
    if (last !== undefined && start <= last.end) last.end = Math.max(last.end, padded)
    else runs.push({ start, end: padded })
  }
  // Pages at the ends may hold bytes of neighbours.
  return runs.map(wholePages).filter(({ start, end }) => start < end)
}

/** Whole pages of `within` in which there is no byte of `taken` (in any order, overlapping or not). */
export function gapsBetween(taken: readonly ByteRange[], within: ByteRange): ByteRange[] {
  const gaps: ByteRange[] = []
  let at = within.start
  for (const { start, end } of taken.toSorted(byStart)) {
    gaps.push({ start: at, end: Math.min(start, within.end) })
    at = Math.max(at, end)
  }
  gaps.push({ start: at, end: within.end })
  return gaps.map(wholePages).filter(({ start, end }) => start < end)
}
