// imapflow against a node: works a mailbox and prints what it saw as JSON. Arguments: port, user, password.
const { ImapFlow } = require('imapflow');

const mail = n => `Subject: number ${n}\r\nMessage-ID: <${n}@example.org>\r\nContent-Type: text/plain\r\n\r\ntext ${n}\r\n`;

async function main(port, user, pass) {
  const client = new ImapFlow({ host: '127.0.0.1', port: Number(port), secure: false, auth: { user, pass }, logger: false });
  await client.connect();
  await client.mailboxCreate('Grüße');
  for (let n = 0; n < 3; n++) await client.append('INBOX', mail(n), n ? [] : ['\\Seen']);
  const seen = {};
  const lock = await client.getMailboxLock('INBOX');
  try {
    seen.exists = client.mailbox.exists;
    seen.found = await client.search({ subject: 'number 1' }, { uid: true });
    seen.subjects = [];
    for await (const message of client.fetch('1:*', { envelope: true, bodyStructure: true, flags: true })) {
      seen.subjects.push(message.envelope.subject);
    }
    const { content } = await client.download('2', '1', { uid: true });
    const pieces = [];
    for await (const piece of content) pieces.push(piece);
    seen.text = Buffer.concat(pieces).toString();
    await client.messageFlagsAdd('1:*', ['\\Flagged'], { uid: true });
    seen.moved = (await client.messageMove('1', 'Grüße', { uid: true })).path;
    await client.messageDelete('2', { uid: true });
  } finally {
    lock.release();
  }
  seen.status = await client.status('Grüße', { messages: true, unseen: true });
  seen.folders = (await client.list()).map(one => one.path);
  seen.quota = await client.getQuota('INBOX');
  await client.logout();
  console.log(JSON.stringify(seen));
}

main(...process.argv.slice(2)).catch(error => {
  console.error(error);
  process.exit(1);
});
