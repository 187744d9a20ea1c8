/**
 * `--attributes`: which files keep their data in another blob than the image's own, as rules in the form of
 * gitattributes(5): a pattern and attributes a line, of which the last that matches counts. Known is `type=external`;
 * `-type` or `!type` takes it back. A pattern that matches a folder holds for all below it.
 */
import { NydusError } from '../base/errors.js'

interface Rule {
  /** Matches a path without its leading slash, bytes as Latin-1. */
  readonly pattern: RegExp
  readonly external: boolean
}

const SPECIAL = /[.*+?^${}()|\\[\]]/g

function escaped(text: string): string {
  return text.replaceAll(SPECIAL, String.raw`\$&`)
}

/** A glob of one path: `*` and `?` stay within a name, `**` between slashes stands for any folders. */
function globToRegExp(glob: string): RegExp {
  const anchored = glob.replace(/\/+$/, '').includes('/')
  const names = glob.split('/').filter(name => name !== '')
  let source = anchored ? '^' : '^(?:.*/)?'
  names.forEach((name, i) => {
    const last = i === names.length - 1
    if (name === '**') source += last ? '.+' : '(?:.*/)?'
    else source += nameSource(name) + (last ? '' : '/')
  })
  return new RegExp(`${source}(?:/.*)?$`, 's')
}

function nameSource(name: string): string {
  let source = ''
  for (let at = 0; at < name.length; at++) {
    const c = name.charAt(at)
    const set = c === '[' ? /^\[([!^]?)(\]?[^\]]*)\]/.exec(name.slice(at)) : null
    if (set !== null) {
      source += `[${set[1] === '' ? '' : '^/'}${(set[2] ?? '').replaceAll(/[\\\]^[]/g, String.raw`\$&`)}]`
      at += set[0].length - 1
    } else if (c === '\\' && at + 1 < name.length) source += escaped(name.charAt(++at))
    else source += c === '*' ? '[^/]*' : c === '?' ? '[^/]' : escaped(c)
  }
  return source
}

/** The pattern, which may stand in quotation marks, and what follows it. */
function split(line: string): [pattern: string, attributes: string[]] {
  const quoted = /^"((?:[^"\\]|\\.)*)"(.*)$/.exec(line)
  const [pattern, rest] =
    quoted === null
      ? [line.split(/\s/, 1)[0] ?? '', line.replace(/^\S+/, '')]
      : [(quoted[1] ?? '').replaceAll(/\\(["\\])/g, '$1'), quoted[2] ?? '']
  return [pattern, rest.split(/\s+/).filter(word => word !== '')]
}

export class Attributes {
  readonly #rules: readonly Rule[]

  private constructor(rules: readonly Rule[]) {
    this.#rules = rules
  }

  /** `name` of the file is for messages. Throws NydusError BUILD_ATTRIBUTES. */
  static parse(name: string, bytes: Uint8Array): Attributes {
    const rules: Rule[] = []
    for (const [i, text] of Buffer.from(bytes).toString('latin1').split('\n').entries()) {
      const line = text.trim()
      if (line === '' || line.startsWith('#')) continue
      const bad = (what: string): NydusError =>
        new NydusError('BUILD_ATTRIBUTES', 'EINVAL', `${name}, line ${i + 1}: ${what}`)
      const [pattern, attributes] = split(line)
      if (pattern.startsWith('!')) throw bad("a pattern cannot begin with '!'")
      if (pattern.replaceAll('/', '') === '')
        throw bad('the root cannot be external; give a pattern for files')
      if (attributes.length === 0) throw bad('no attribute follows the pattern: type=external expected')
      for (const attribute of attributes) {
        if (!/^(type=external|[-!]type)$/.test(attribute))
          throw bad(`attribute '${attribute}' is not known: type=external, -type or !type expected`)
        rules.push({ pattern: globToRegExp(pattern), external: attribute === 'type=external' })
      }
    }
    return new Attributes(rules)
  }

  /** Whether the data of the file at `path` (bytes, from the root, with a leading slash) lies in the external blob. */
  isExternal(path: Uint8Array): boolean {
    const text = Buffer.from(path).toString('latin1').replace(/^\/+/, '')
    return this.#rules.findLast(rule => rule.pattern.test(text))?.external ?? false
  }
}
