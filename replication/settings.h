/*
 * STORE/.sibfs/config: what a person edits.  INI.
 *
 *	[replica]
 *	node = laptop		; written by init, as is set
 *	set = 5f3a...
 *	paused = yes
 *	min_free = 2G		; or 5%
 *	owners = name | number | no
 *	setuid = yes
 *	absent_days = 14
 *	[peer server]
 *	url = ssh://server/home/anna/docs
 *	identity = /home/anna/.ssh/id_sibfs
 *	transport = auto | ssh2 | ssh
 *	join = yes		; this replica may change to the peer's set
 *	paused = yes
 *	limit = 2M 08:00-18:00
 */
#ifndef SIBFS_SETTINGS_H
#define SIBFS_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "replication/throttle.h"
#include "replication/transport.h"

#define SETTINGS_NODE_MAX 32
#define SETTINGS_ABSENT_DAYS 14

struct settings_peer {
	char *name;
	char *url;		/* NULL: known only because it calls us */
	char *identity;		/* NULL: agent and default keys */
	enum transport_kind transport;
	bool join;
	bool paused;
	struct limit limit;	/* bytes per second, in each direction */
};

/* What is made of owners and groups that come, as far as we run as root. */
enum owners {
	OWNERS_BY_NAME,		/* by number, where the name is not known */
	OWNERS_BY_NUMBER,
	OWNERS_NOT,		/* files that come are the daemon's */
};

/* Bytes, or percents of the disk; set: somebody said so. */
struct reserve {
	bool set;
	uint64_t bytes;
	unsigned percent;
};

struct settings {
	char *node;		/* [replica] node, set; NULL: not a store yet */
	char *set;
	bool paused;		/* [replica] paused: all links rest */
	enum owners owners;
	bool setuid;		/* set-id bits of files that come are set */
	struct reserve min_free;	/* what replication leaves free on the disk */
	unsigned absent_days;	/* a member not heard of for so long is named by status */
	struct settings_peer *peers;
	size_t peers_len;
};

/* Reads the config file in the directory dirfd (the store's .sibfs).  A missing
 * file is an empty one.  -EBADMSG with one line ("config:12: ...") in why. */
int		 settings_load(int dirfd, struct settings *out, char *why, size_t why_size);
void		 settings_fini(struct settings *s);
struct settings_peer *settings_find(const struct settings *s, const char *peer);

/* Sets, or with value NULL removes, one key, leaving all other lines of the
 * file as the person wrote them; written anew beside it, synced and renamed.
 * -EINVAL: a value that would be read back differently (ends in white space,
 * holds " ;" or control characters). */
int		 settings_set(int dirfd, const char *section, const char *key, const char *value);
int		 settings_remove_section(int dirfd, const char *section);

/* A node name: letters, digits, '-', '_'; at most 32; first a letter or digit. */
bool		 settings_node_valid(const char *name);

#endif
