/** The guest's console: kept line by line for whoever has to explain a failure, and passed on to whoever listens. */
import type { Readable, Writable } from 'node:stream'

const KEPT_LINES = 400
/** A line that never ends (a program that draws on the console) is cut here. */
const LONGEST_LINE = 4096
const ESCAPE = String.fromCodePoint(0x1b)
/** What a terminal obeys and does not show: carriage returns, ESC c, and CSI sequences, those of the BIOS (`=`) too. */
const CONTROLS = new RegExp(String.raw`\r|${ESCAPE}c|${ESCAPE}\[[0-9;?=]*[A-Za-z]`, 'g')

export class Console {
  readonly input: Writable
  readonly output: Readable
  readonly #lines: string[] = []
  #partial = ''

  constructor(input: Writable, output: Readable) {
    this.input = input
    this.output = output
    input.on('error', () => {}) // EPIPE when QEMU ends: its exit is reported elsewhere
    output.on('data', (chunk: Buffer) => this.#keep(chunk.toString('latin1')))
  }

  /** The last `count` lines, without carriage returns and without the BIOS's control sequences. */
  tail(count = 30): string {
    const lines = this.#partial === '' ? this.#lines : [...this.#lines, this.#partial]
    return lines.slice(-count).join('\n')
  }

  #keep(text: string): void {
    const plain = text.replaceAll(CONTROLS, '')
    const lines = (this.#partial + plain).split('\n')
    this.#partial = (lines.pop() ?? '').slice(0, LONGEST_LINE)
    this.#lines.push(...lines)
    this.#lines.splice(0, this.#lines.length - KEPT_LINES)
  }
}
