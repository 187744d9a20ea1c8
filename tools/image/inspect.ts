/** `nydus-image inspect` (nydus-image.md 3): a prompt, or one request whose answer programs read. */
import { createInterface } from 'node:readline/promises'
import type { Command } from 'commander'
import { explain, NydusError } from '../../lib/base/errors.js'
import type { Inspector } from '../../lib/image/inspect.js'
import type { Io } from '../program.js'
import { bootstrapOf } from './check.js'

interface Values {
  readonly bootstrap?: string
  readonly request?: string
}

const PROMPT = 'Inspecting RAFS :> '
const EXIT = ['exit', 'q']

export function inspectCommand(program: Command, io: Io): void {
  program
    .command('inspect')
    .description('Look around in the metadata of an image')
    .argument('[bootstrap]', 'bootstrap, or a blob with inlined metadata')
    .option('-B, --bootstrap <file>', 'the same')
    .option('-R, --request <command>', 'run one command and print what it finds as JSON; `help` lists them')
    .option('-D, --blob-dir <folder>', 'accepted: no blob is read')
    .option('-C, --config <file>', 'accepted: no blob is read')
    .action(async (argument: string | undefined, values: Values) => run(argument, values, io))
}

async function run(argument: string | undefined, values: Values, io: Io): Promise<void> {
  const { RafsImage } = await import('../../lib/rafs/image.js')
  const { HELP, Inspector } = await import('../../lib/image/inspect.js')
  const image = await RafsImage.open({
    path: bootstrapOf(argument, values.bootstrap),
    xattrs: true,
    validate: false,
  })
  try {
    const inspector = new Inspector(image)
    if (values.request === undefined) await prompt(inspector, HELP, io)
    else answer(inspector, values.request.trim(), io)
  } finally {
    await image.close()
  }
}

/** Commands that have a value give only that, all others their text and `null`. */
function answer(inspector: Inspector, request: string, io: Io): void {
  if (EXIT.includes(request)) {
    io.stdout.write('null\n')
    return
  }
  const { text, value } = inspector.run(request)
  io.stdout.write(value === null ? `${text}null\n` : `${JSON.stringify(value)}\n`)
}

/** Ends at `exit`, `q` or the end of the input. */
async function prompt(inspector: Inspector, help: string, io: Io): Promise<void> {
  const lines = createInterface({ input: process.stdin })
  io.stdout.write(PROMPT)
  for await (const line of lines) {
    const command = line.trim()
    if (EXIT.includes(command)) return
    if (command === 'help') io.stdout.write(help)
    else if (command !== '') io.stdout.write(textOf(inspector, command, help))
    io.stdout.write(PROMPT)
  }
  io.stdout.write('\n')
}

/** A command that fails is no reason to leave. */
function textOf(inspector: Inspector, command: string, help: string): string {
  try {
    return inspector.run(command).text
  } catch (error) {
    if (!(error instanceof NydusError)) throw error
    return `${explain(error)}\n${error.code === 'INSPECT_USAGE' ? help : ''}`
  }
}
