/** Lines of the process's standard input, to its end; any kind of it: a terminal, file, pipe or socket. */
export async function stdinLines(): Promise<string[]> {
  const parts: Buffer[] = []
  for await (const part of process.stdin) parts.push(part as Buffer)
  return Buffer.concat(parts).toString().split('\n')
}
