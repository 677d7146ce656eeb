/*
 * What kind of SSH key a file or an agent holds, as far as it decides who can
 * use it: libssh2 (1.10) signs neither with RSA and SHA-2 nor with hardware
 * keys, and nobody here types a passphrase.
 */
#ifndef SIBFS_SSH_KEY_H
#define SIBFS_SSH_KEY_H

#include <stdbool.h>
#include <stddef.h>

enum ssh_key_kind {
	SSH_KEY_NONE,		/* no file, or not one that we can read */
	SSH_KEY_USABLE,
	SSH_KEY_RSA,
	SSH_KEY_HARDWARE,
	SSH_KEY_ENCRYPTED,	/* needs a passphrase: an agent has to hold it */
};

enum ssh_key_kind ssh_key_of_file(const char *path);

/* A public key as it is sent: its type name, length first. */
enum ssh_key_kind ssh_key_of_blob(const unsigned char *blob, size_t len);

#endif
