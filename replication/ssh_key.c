/*
 * Looks into private key files just far enough to tell their kind.  OpenSSH's
 * own format (PROTOCOL.key) is base64 of a magic string, the cipher's name, the
 * KDF's name and options, a count, and the public key in the clear.
 */
#include "config.h"

#include "replication/ssh_key.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <openssl/evp.h>

enum { HEAD_BYTES = 1024 };

/* Bytes being taken apart; a failed take leaves len at 0. */
struct bytes {
	const unsigned char *p;
	size_t len;
};

static struct bytes
take_string(struct bytes *b)
{
	struct bytes s = { NULL, 0 };
	size_t n;

	if (b->len < 4)
		goto short_of;
	n = (size_t)b->p[0] << 24 | (size_t)b->p[1] << 16 | (size_t)b->p[2] << 8 | b->p[3];
	if (n > b->len - 4)
		goto short_of;
	s.p = b->p + 4;
	s.len = n;
	b->p += 4 + n;
	b->len -= 4 + n;
	return s;

short_of:
	b->len = 0;
	return s;
}

static bool
begins(struct bytes s, const char *with)
{
	return s.len >= strlen(with) && memcmp(s.p, with, strlen(with)) == 0;
}

enum ssh_key_kind
ssh_key_of_blob(const unsigned char *blob, size_t len)
{
	struct bytes b = { blob, len };
	struct bytes type = take_string(&b);

	if (begins(type, "ssh-rsa"))
		return SSH_KEY_RSA;
	if (begins(type, "sk-"))
		return SSH_KEY_HARDWARE;
	return SSH_KEY_USABLE;
}

/* Decodes the base64 after the first line of text; returns the length. */
static size_t
decode_body(const char *text, unsigned char *out, size_t size)
{
	char b64[HEAD_BYTES];
	size_t n = 0;
	int got;

	text = strchr(text, '\n');
	for (; text != NULL && *text != '\0' && *text != '-'; text++)
		if (*text != '\n' && *text != '\r' && n < sizeof(b64))
			b64[n++] = *text;
	n -= n % 4;
	if (n / 4 * 3 > size)
		n = size / 3 * 4;
	got = EVP_DecodeBlock(out, (unsigned char *)b64, (int)n);
	return got > 0 ? (size_t)got : 0;
}

static enum ssh_key_kind
kind_of_openssh(const char *text)
{
	static const char magic[] = "openssh-key-v1";	/* its NUL counts */
	unsigned char raw[HEAD_BYTES];
	struct bytes b = { raw, decode_body(text, raw, sizeof(raw)) };
	struct bytes cipher, type_of, key;

	if (b.len < sizeof(magic) || memcmp(raw, magic, sizeof(magic)) != 0)
		return SSH_KEY_NONE;
	b.p += sizeof(magic);
	b.len -= sizeof(magic);
	cipher = take_string(&b);
	take_string(&b);
	take_string(&b);
	if (b.len < 8)
		return SSH_KEY_NONE;
	/* The count, and the length of the first key: its type comes next. */
	key.p = b.p + 8;
	key.len = b.len - 8;
	type_of = take_string(&key);
	if (begins(type_of, "ssh-rsa"))
		return SSH_KEY_RSA;
	if (begins(type_of, "sk-"))
		return SSH_KEY_HARDWARE;
	if (!begins(cipher, "none"))
		return SSH_KEY_ENCRYPTED;
	return SSH_KEY_USABLE;
}

enum ssh_key_kind
ssh_key_of_file(const char *path)
{
	char text[HEAD_BYTES + 1];
	size_t n;
	FILE *f = fopen(path, "re");

	if (f == NULL)
		return SSH_KEY_NONE;
	n = fread(text, 1, HEAD_BYTES, f);
	fclose(f);
	text[n] = '\0';
	if (strncmp(text, "-----BEGIN ", 11) != 0)
		return SSH_KEY_NONE;
	if (strstr(text, "BEGIN OPENSSH PRIVATE KEY") != NULL)
		return kind_of_openssh(text);
	if (strstr(text, "BEGIN RSA PRIVATE KEY") != NULL)
		return SSH_KEY_RSA;
	if (strstr(text, "ENCRYPTED") != NULL)
		return SSH_KEY_ENCRYPTED;
	return SSH_KEY_USABLE;
}
