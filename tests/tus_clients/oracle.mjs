// The reference server in JavaScript: node oracle.mjs FOLDER PORT
import { FileStore } from '@tus/file-store'
import { Server } from '@tus/server'

const [directory, port] = process.argv.slice(2)
const server = new Server({ path: '/uploads', datastore: new FileStore({ directory }), maxSize: 2 ** 30 })
server.listen({ host: '127.0.0.1', port: Number(port) }, () => console.log('ready'))
