/*
 * By which names it is told what was written, and the names that wait: those
 * that editors use for a moment.  Few names wait at any time, so what is known
 * of one stands apart from it, in a table by its address that is also the list of
 * all, in the order in which they came.
 */
#include "config.h"

#include "fs/session_impl.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <uthash.h>
#include <utlist.h>

#include "fs/fs.h"
#include "replication/clock.h"
#include "replication/mem.h"

enum {
	PASSING_MS = 1000,	/* a passing name is told when it stood for so long */
};

struct waiting {
	struct name *name;	/* is taken out of here before it goes */
	int64_t since_ms;
	char *was;		/* the name in this directory that it had, as far as the replica was
				 * told; NULL: it is told as new */
	UT_hash_handle hh;
};

static struct waiting *
find_waiting(struct fs *fs, const struct name *name)
{
	struct waiting *w;

	HASH_FIND_PTR(fs->sessions.waiting, &name, w);
	return w;
}

static struct waiting *
start_waiting(struct fs *fs, struct name *name)
{
	struct waiting *w = find_waiting(fs, name);

	if (w == NULL) {
		w = mem_alloc(sizeof *w);
		w->name = name;
		HASH_ADD_PTR(fs->sessions.waiting, name, w);
		session_wake_timer(fs);
	}
	w->since_ms = clock_coarse_ms();
	return w;
}

static void
stop_waiting(struct fs *fs, struct waiting *w)
{
	HASH_DEL(fs->sessions.waiting, w);
	free(w->was);
	free(w);
}

/* It has another name than the replica knows. */
static void
tell_moved(struct fs *fs, const struct waiting *w)
{
	const struct name *name = w->name;

	session_tell(fs, (struct replica_event){
		.op = REPLICA_RENAME,
		.ino = name_inode(name)->key.ino,
		.dir = name->dir,
		.name = w->was,
		.dir2 = name->dir,
		.name2 = name->text,
	});
}

static void
tell_content(struct fs *fs, const struct name *name, bool unsure)
{
	session_tell(fs, (struct replica_event){
		.op = REPLICA_WRITE,
		.ino = name_inode(name)->key.ino,
		.dir = name->dir,
		.name = name->text,
		.unsure = unsure,
	});
}

/*
 * The file may be written by this name before the replica sees it for the first
 * time.  Where it has another name, that one has changed then, too, and the
 * kernel may have forgotten it by the time of writing: it is looked at now.
 */
static void
tell_made(struct fs *fs, const struct name *name)
{
	const struct name *other = name->of->first != name ? name->of->first : name->next;

	tell_content(fs, name, false);
	if (other != NULL && find_waiting(fs, other) == NULL)
		session_tell(fs, (struct replica_event){
			.op = REPLICA_WRITE,
			.dir = other->dir,
			.name = other->text,
			.unsure = true,
		});
}

/* What was moved is told as it is by now. */
static void
tell_waiting(struct fs *fs, struct waiting *w)
{
	if (w->was != NULL)
		tell_moved(fs, w);
	else
		tell_made(fs, w->name);
	stop_waiting(fs, w);
}

static void
tell_write(struct fs *fs, struct name *name, bool unsure)
{
	struct waiting *w = find_waiting(fs, name);

	if (w != NULL && w->was != NULL) {
		tell_waiting(fs, w);
		return;
	}
	if (w != NULL)
		stop_waiting(fs, w);
	tell_content(fs, name, unsure);
}

bool
session_name_written(struct fs *fs, struct name *name, bool unsure)
{
	if (!name_is_passing(name->text)) {
		tell_write(fs, name, unsure);
		return true;
	}
	start_waiting(fs, name);
	return false;
}

void
session_name_new(struct fs *fs, struct name *name, bool open)
{
	if (open)
		return;
	if (name_is_passing(name->text))
		start_waiting(fs, name);
	else
		tell_made(fs, name);
}

void
session_name_gone(struct fs *fs, struct name *name)
{
	struct waiting *w = find_waiting(fs, name);

	if (w == NULL)
		return;
	if (w->was != NULL)
		tell_moved(fs, w);
	stop_waiting(fs, w);
}

bool
session_name_moved(struct fs *fs, struct name *name, const char *was)
{
	if (!name_is_passing(name->text) || name_is_passing(was))
		return false;
	start_waiting(fs, name)->was = mem_str(was);
	return true;
}

void
session_name_made(struct fs *fs, ino_t dir, const char *text, bool plain)
{
	struct waiting *w, *tmp;

	HASH_ITER(hh, fs->sessions.waiting, w, tmp) {
		if (w->was == NULL || w->name->dir != dir || strcmp(w->was, text) != 0)
			continue;
		if (!plain) {
			tell_waiting(fs, w);
			continue;
		}
		free(w->was);
		w->was = NULL;
	}
}

/* Other names of it may stand that we do not know: the replica does.  It looks at
 * them while it still has the note of this one, and says them if it is still open for
 * writing. */
void
session_name_unlinked(struct fs *fs, struct name *name)
{
	struct inode *i = name_inode(name);
	struct stat st;
	int fd;

	if ((atomic_load(&i->dirty) || atomic_load(&i->writers) > 0 || find_waiting(fs, name) != NULL) &&
	    name->next == NULL && i->names.first == name && (fd = inode_fd_get_locked(fs, i)) >= 0) {
		if (fstat(fd, &st) == 0 && st.st_nlink > 0)
			tell_write(fs, name, true);
		inode_fd_put_locked(fs, i);
	}
	session_name_gone(fs, name);
}

void
session_name_found(struct fs *fs, ino_t ino, ino_t dir, const char *text)
{
	struct inode *i = inode_find(fs, ino);

	if (i == NULL || atomic_load(&i->writers) == 0 || names_find(&fs->names, dir, text) != NULL)
		return;
	names_add(&fs->names, &i->names, dir, text);
	replica_touch(fs->replica, dir, text);
}

void
session_name_taken(struct fs *fs, struct name *name)
{
	struct waiting *w = find_waiting(fs, name);
	struct inode *i = name_inode(name);

	if (w == NULL)
		return;
	session_mark_dirty(fs, i, false);
	if (atomic_load(&i->session->written_ms) == 0)	/* the session that wrote it is over */
		atomic_store(&i->session->written_ms, w->since_ms);
	stop_waiting(fs, w);
}

void
session_name_dropped(struct fs *fs, struct name *name)
{
	struct waiting *w = find_waiting(fs, name);

	if (w != NULL)
		tell_waiting(fs, w);
}

void
session_name_settle(struct fs *fs, struct name *name)
{
	struct waiting *w = find_waiting(fs, name);

	if (w != NULL && w->was != NULL)
		tell_waiting(fs, w);
}

void
session_tell_waiting(struct fs *fs)
{
	struct waiting *w, *tmp;

	HASH_ITER(hh, fs->sessions.waiting, w, tmp)
		tell_waiting(fs, w);
}

void
session_tell_moved(struct fs *fs)
{
	struct waiting *w, *tmp;

	HASH_ITER(hh, fs->sessions.waiting, w, tmp)
		if (w->was != NULL)
			tell_waiting(fs, w);
}

void
session_names_due(struct fs *fs, int64_t now)
{
	struct waiting *w, *tmp;

	HASH_ITER(hh, fs->sessions.waiting, w, tmp)
		if (now - w->since_ms >= PASSING_MS)
			tell_waiting(fs, w);
}
