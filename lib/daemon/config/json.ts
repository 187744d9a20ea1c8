/**
 * JSON for people: JSON.parse where it succeeds, otherwise a parser that also takes comments (the README of
 * 2020 shows `// 128KB` in a configuration) and trailing commas, and that tells where it stopped.
 *
 * JSON.parse's own message quotes the text around the error, which may be a password, and Node 20 gives no
 * position for most errors: hence a parser, not a look at that message.
 */

/** The text is not JSON. The message tells what was expected there and never quotes the text. */
export class JsonError extends Error {
  override readonly name = 'JsonError'
  /** Both start at 1; columns count UTF-16 units. */
  readonly line: number
  readonly column: number

  constructor(problem: string, text: string, at: number) {
    const before = text.slice(0, at)
    const line = before.split('\n').length
    const column = at - before.lastIndexOf('\n')
    super(`${problem} at line ${line} column ${column}`)
    this.line = line
    this.column = column
  }
}

/** Deeper nesting is an attack or a mistake; the recursion below needs a bound. */
const MAX_DEPTH = 128

export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return new Parser(text).document()
  }
}

const QUOTE = 0x22
const BACKSLASH = 0x5c
const SPACE = 0x20

const WORDS = new Map<string, unknown>([
  ['true', true],
  ['false', false],
  ['null', null],
])

class Parser {
  readonly #text: string
  #at = 0

  constructor(text: string) {
    this.#text = text
  }

  document(): unknown {
    this.#space()
    const value = this.#value(0)
    this.#space()
    if (this.#at < this.#text.length) this.#fail('text behind the end of the value')
    return value
  }

  #fail(problem: string, at = this.#at): never {
    throw new JsonError(at >= this.#text.length ? 'unexpected end of the text' : problem, this.#text, at)
  }

  /** Skips white space, `// …` and `/* … *\/`. */
  #space(): void {
    const blank = /(?:[ \t\r\n\uFEFF]|\/\/[^\n]*|\/\*[^]*?\*\/)*/y
    blank.lastIndex = this.#at
    this.#at += blank.exec(this.#text)?.[0].length ?? 0
  }

  #take(char: string): boolean {
    if (this.#text[this.#at] !== char) return false
    this.#at++
    this.#space()
    return true
  }

  #value(depth: number): unknown {
    if (depth > MAX_DEPTH) this.#fail(`more than ${MAX_DEPTH} levels`)
    if (this.#take('{')) return this.#object(depth)
    if (this.#take('[')) return this.#array(depth)
    if (this.#text[this.#at] === '"') return this.#string()
    const token = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.+-])|true\b|false\b|null\b/y
    token.lastIndex = this.#at
    const word = token.exec(this.#text)?.[0]
    if (word === undefined) this.#fail('a value was expected')
    this.#at += word.length
    return WORDS.has(word) ? WORDS.get(word) : Number(word)
  }

  #object(depth: number): unknown {
    const entries: [string, unknown][] = []
    while (!this.#take('}')) {
      if (this.#text[this.#at] !== '"') this.#fail('a key in double quotes or `}` was expected')
      const key = this.#string()
      this.#space()
      if (!this.#take(':')) this.#fail('`:` was expected behind the key')
      entries.push([key, this.#value(depth + 1)])
      this.#space()
      if (!this.#take(',') && this.#text[this.#at] !== '}') this.#fail('`,` or `}` was expected')
    }
    return Object.fromEntries(entries)
  }

  #array(depth: number): unknown {
    const items: unknown[] = []
    while (!this.#take(']')) {
      items.push(this.#value(depth + 1))
      this.#space()
      if (!this.#take(',') && this.#text[this.#at] !== ']') this.#fail('`,` or `]` was expected')
    }
    return items
  }

  #string(): string {
    const start = this.#at
    let end = start + 1
    for (let code = 0; (code = this.#text.charCodeAt(end)) !== QUOTE; end += code === BACKSLASH ? 2 : 1)
      if (!(code >= SPACE)) this.#fail('this text in quotes is not closed', end)
    this.#at = end + 1
    try {
      return JSON.parse(this.#text.slice(start, this.#at)) as string
    } catch {
      return this.#fail('this text in quotes holds a wrong escape', start)
    }
  }
}
