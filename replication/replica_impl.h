/*
 * The insides of a running replica, shared by the replica_*.c, view.c,
 * content.c and link.c.  All of it belongs to the replica's thread, but for
 * what stands under `queue_lock`, and the view lock itself.
 */
#ifndef SIBFS_REPLICA_IMPL_H
#define SIBFS_REPLICA_IMPL_H

#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include <jansson.h>
#include <uthash.h>

#include "replication/disk.h"
#include "replication/hasher.h"
#include "replication/ignore.h"
#include "replication/index.h"
#include "replication/local.h"
#include "replication/log.h"
#include "replication/mem.h"
#include "replication/netwatch.h"
#include "replication/replica.h"
#include "replication/settings.h"
#include "replication/state.h"
#include "replication/wire.pb-c.h"

#define REPLICA_SET_MAX 64

#define PLACE_EPOCHS 256

/* First in a journal that was begun anew while files were open. */
#define JOURNAL_CUT "cut"

struct link;
struct relay;
struct control_conn;

struct event {
	struct event *next;
	enum replica_op op;
	ino_t ino, dir, dir2;
	char *name, *name2;
	int64_t time_ns, mtime_from, mtime_to;
	unsigned attrs;
	bool is_dir, unsure;
	struct question *question;	/* REPLICA_ASK: answered when its turn comes */
};

/* A computed attribute that a thread of the mount waits for. */
struct question {
	enum replica_query what;
	pthread_cond_t done_cond;
	bool done;
	int rc;
	char *answer;
};

/* An incarnation that ever exchanged in the set. */
struct member {
	UT_hash_handle hh;
	uint64_t id;
	char node[SETTINGS_NODE_MAX + 1];
	struct vv know;		/* what it has, durably, as far as we have it too */
	struct vv ahead;	/* what it has beyond */
	uint64_t retired, back;	/* clock stamps: retired if the first is the larger */
	uint64_t heard_s;	/* when anyone last heard of it, or about */
	uint64_t seq;		/* of its last change, for what links tell */
	uint64_t from;		/* incarnation that told of it last; 0: ourselves */
	bool dirty;
};

/* Forgetting: what all members had some time ago, and how far we are with it. */
struct forgetting {
	enum { FORGET_REST, FORGET_WAIT, FORGET_REGS, FORGET_DIRS } stage;
	struct vv stable;	/* while not at rest */
	struct vv done;		/* the last that was gone through */
	int64_t at_ms;
};

/* A name whose kernel entry is to be invalidated once the view lock is free. */
struct note {
	ino_t dir;
	char *name;		/* NULL: the inode itself */
};

/* Content on its way in: content_impl.h. */
struct staged;
struct want;
struct fetch;
struct recycled;

/* How far we are in a peer's changes. */
struct progress {
	UT_hash_handle hh;
	uint64_t id;
	char node[SETTINGS_NODE_MAX + 1];
	uint64_t epoch, seq;
};

enum { JOURNAL_RECENT = 512 };

/* What a turn of the loop waits for, and whose each descriptor is. */
struct polled {
	struct pollfd *fds;
	void **who;
	size_t len;
};

/* A peer by name: from the settings, or because it called. */
struct peer {
	struct peer *next;
	char *name;
	struct link *link;	/* the one in use, or NULL */
	struct transport *transport;	/* that carries it, if we called */
	int64_t idle_at_ms;	/* paused: a link that a round needed ends then */
	int64_t retry_at_ms;	/* monotonic; 0: now */
	unsigned tries;
	const char *state;	/* connected, connecting, paused, unreachable, refused */
	int64_t since_s;
	char error[256];
	unsigned rounds;	/* that wait for a link: connect even while paused */
	uint64_t id;		/* incarnation, once known */
	struct vv know;		/* what it has, as far as it told */
	uint64_t acked_seq;
	uint64_t wanted, wanted_bytes;
	uint64_t sent_bytes, received_bytes;	/* on links, since the start */
};

/* A register (name NULL: a directory) that the disk does not show yet. */
struct again {
	uint64_t dir_num;
	char *name;
};

struct replica {
	/* Opened once. */
	int root_fd, meta_fd, staging_fd, chunks_fd, trash_fd, moving_fd, lock_fd;
	dev_t dev;
	ino_t ino;
	char *path;
	char node[SETTINGS_NODE_MAX + 1];
	char set[REPLICA_SET_MAX + 1];
	uint64_t epoch;		/* of the sequence numbers given now */
	struct epoch {
		uint64_t token;		/* random: one for each opening */
		uint64_t start;		/* all up to here are of those before */
	} epochs[PLACE_EPOCHS];		/* the last ones */
	size_t epochs_len;
	bool seen_saved;	/* the index has more of state.seen than nothing */
	unsigned own_forks;	/* in our past, as far as was said */
	uint64_t run;		/* random: tells this process from one that runs a copy */
	bool as_root;

	struct state *s;
	size_t cache_regs;	/* that stay in memory when nothing is done with them */
	struct index *x;
	struct disk disk;
	struct settings settings;
	struct ignore *ignore;	/* NULL: no rules */
	struct ignore *ignored_before;	/* what they were when the store was closed, if they differ */
	struct member *members;
	uint64_t members_seq;
	struct vv committed;	/* our knowledge as of the last commit */
	struct vv durable;	/* the same, synced to disk: all that is told */
	bool forgot_changed;
	struct forgetting forgetting;
	unsigned members_len;
	struct progress *progress;
	bool in_transaction;
	bool walking;		/* many files are taken in at once */
	bool unsynced;		/* content that the next commit speaks of is not on disk yet */
	bool index_unsynced;	/* nor is what was committed while users waited */
	bool clean_start;
	uint64_t rebuilt;	/* files whose marks were believed */
	bool rebuilding;	/* the index is made anew: marks on files are believed */
	bool restored;		/* copied, restored or rolled back: what is missing was not removed */
	bool same_boot;		/* the machine runs since the store was opened last */
	bool opened;
	bool index_failed;	/* the last commit did not succeed */
	bool index_broken;	/* a row could not be read */
	int quit_conn_fd;	/* of who asked us to quit: closed last */

	const struct replica_view *view;
	char *mountpoint;
	void (*quit_fn)(void *arg);
	void *quit_arg;

	/* Locks, outermost first; take them downwards only. */
	pthread_rwlock_t view_lock;	/* shared: operations; exclusive: changes to the view */
	pthread_mutex_t queue_lock;	/* events, the journal, questions, calls */

	struct event *first, **last;
	atomic_size_t queued;
	size_t questions;		/* of them */
	struct event *taken;		/* from there, in order: by our thread alone */
	size_t taken_len;
	bool gathering;			/* we leave them there for a moment; written by our thread alone */
	int64_t gather_until_ms;
	unsigned handled;		/* in this turn */
	int journal_fd;
	atomic_size_t journal_size;
	uint64_t journalled[JOURNAL_RECENT];	/* hashes of lines that stand there */
	bool stopping;
	struct call *calls;		/* from other threads, to be run on ours */

	int wake_fd, listen_fd;
	pthread_t thread;
	bool running;
	struct polled polled;

	bool view_held;			/* we hold the view lock */
	struct look {
		enum {
			LOOK_AT_DIR,	/* it may be new there, or elsewhere */
			LOOK_AT_FILE,	/* its directory could not be found when it was told, or
					 * another name of it went while it was written */
			LOOK_AT_LINK,	/* it was told as another name of a file */
			LOOK_AT_ATTRS,	/* of a directory that could not be found when it was made */
		} what;
		uint64_t dir, ino;	/* inodes */
		char *name;
	} *looks;			/* to be done when all was told */
	size_t looks_len;
	struct note *notes;
	size_t notes_len;
	struct reg_list deferred;	/* pending ones that could not show yet */
	int64_t deferred_at_ms;
	struct again *again;	/* what the disk could not be made to show */
	size_t again_len;
	int64_t again_at_ms;
	struct staged *staged;
	struct hasher *hasher;	/* NULL while not started */
	struct relay *relays;	/* what peers asked for that is fetched for them */
	struct want *wants, *wants_by_id;
	struct fetch *fetches;	/* of the wants that come by chunks */
	struct recycled *recycled;
	DIR *sweep;		/* of lists of chunks: how far it is, or NULL */
	bool sweep_due;		/* it is time for one */
	bool wants_sorted;	/* small ones first */
	uint64_t next_want;
	uint64_t wants_made;
	uint64_t links_made;
	uint64_t next_temp;
	struct peer *peers;
	struct link *links;
	struct control_conn *conns;
	uint64_t next_round;
	struct unmarked *unmarked;
	size_t unmarked_len;
	bool receiver_full;
	int64_t retry_wants_ms;
	struct netwatch net;
	int64_t net_at_ms;		/* no earlier look at the links */
	int64_t prune_at_ms;
};

/* ---- replica.c ---- */

int64_t		 replica_now_ms(void);			/* monotonic */

/*
 * One turn of the loop: waits at most that long for something to do, and does
 * it.  The replica's thread does nothing else; a test may call it instead, and
 * what starting and stopping is without threads and control socket.
 */
void		 replica_turn(struct replica *r, int ms);
void		 replica_attach(struct replica *r, const struct replica_view *view, const char *mountpoint);
void		 replica_detach(struct replica *r);

/* ---- replica_commit.c ---- */

/* Begins a transaction, unless one is under way. */
int		 replica_begin(struct replica *r);

/* Writes what changed to the index.  After it all may be told to peers; but with
 * the view held nobody waits for the disk, so then not yet. */
int		 replica_commit(struct replica *r);

/* ---- replica_events.c ---- */

/* Runs fn(arg) on the replica's thread soon; any thread. */
struct call {
	struct call *next;
	void (*fn)(struct replica *r, void *arg);
	void *arg;
};
void		 replica_call(struct replica *r, void (*fn)(struct replica *r, void *arg), void *arg);

/* Runs what was called so, on the replica's thread. */
void		 replica_run_calls(struct replica *r);

/* Handles all events told so far, and brings the view up to date. */
void		 replica_settle_events(struct replica *r);

/* The same, with what the mount would tell a little later: names that are
 * mostly there for a moment only. */
void		 replica_settle_closed(struct replica *r);

/* Begins the journal anew when it is large, and all in it was handled. */
void		 replica_trim_journal(struct replica *r);

/* ---- replica_members.c ---- */

#define REPLICA_MEMBERS_MAX 4096

const char	*replica_member(struct replica *r, uint64_t id);	/* its node name */
void		 replica_add_member(struct replica *r, uint64_t id, const char *node);
/* What users see of the i-th entry: its node's name, from the second incarnation
 * of one name on with "#2" and so on. */
void		 replica_name_in(struct replica *r, const struct vv *v, uint32_t i, char *out, size_t size);

/* Heard from the incarnation `from` that a member has all that. */
void		 members_heard(struct replica *r, uint64_t id, const struct vv *know, uint64_t from);

/* It speaks to us: one that was retired is so no more. */
void		 members_here(struct replica *r, uint64_t id);

/* Another replica's news of a member.  -EBADMSG. */
int		 members_learn(struct replica *r, const Sibfs__Wire__Member *m, uint64_t from);
/* Ours, to free by free_unpacked. */
Sibfs__Wire__Member *members_wire(const struct member *m, bool names_only);

/* Hearsay may be of either branch of a fork: what is not certain is not known. */
void		 members_doubt(struct replica *r, const struct relabel *l, size_t n);

/* The events that all members have that are not retired; the caller owns it.
 * False: nothing may be forgotten now. */
bool		 members_stable(struct replica *r, struct vv *out);

/* Writes those that changed; they stay changed until members_saved. */
int		 members_save(struct replica *r);
void		 members_saved(struct replica *r);
index_member_fn	 members_load;	/* arg: the replica */
void		 members_free(struct replica *r);

/* {tombstones, members: [{node, heard, retired, holds_up}]} */
json_t		*members_report(struct replica *r);

/* ---- replica_forget.c ---- */

#define FORGET_TURN_MS 20

/* One bounded step, if there is anything to forget. */
void		 forget_tick(struct replica *r, int64_t now_ms);
bool		 forget_running(const struct replica *r);

/* ---- replica_recover.c ---- */

void		 replica_recover(struct replica *r);

/* The view is as it should be: what is left of changes that were cut short goes
 * to the trash. */
void		 replica_recovered(struct replica *r);

/* ---- replica_local.c, local_*.c (see local_impl.h) ---- */

void		 local_event(struct replica *r, struct event *e);

/* Something to be looked at when all was told that users did; l.name is copied. */
void		 local_look_later(struct replica *r, struct look l);

/* Now it was.  May take hold of the view, until the next view_update. */
void		 local_look_when_told(struct replica *r);

/* A file that was to be hashed is looked at now: the replica stops. */
void		 local_hash_now(struct replica *r, struct hash_job *j);

/* Looks at dir/name on disk as if it had just been written. */
void		 local_seal(struct replica *r, struct disk_dir *dd, const char *name);

/* The same for one that no register knows, whatever shows there by now. */
void		 local_seal_new(struct replica *r, struct disk_dir *dd, const char *name);

/* Takes in all below dd that the state does not know, or that differs. */
void		 local_reconcile(struct replica *r, struct disk_dir *dd,
		    void (*progress)(void *arg, uint64_t files, uint64_t bytes), void *arg);

/* The same; where a directory stands elsewhere than it should, `touched` says
 * whether users touched that name: else it is put back by the view. */
typedef bool	 local_touched_fn(void *arg, ino_t dir, const char *name);
void		 local_reconcile_touched(struct replica *r, struct disk_dir *dd, local_touched_fn *touched, void *arg);

/* Those names that `before` covered and the rules of now do not. */
void		 local_reconcile_ignored(struct replica *r, const struct ignore *before);

/* One name, and all below it if it is a directory not known yet. */
void		 local_reconcile_name(struct replica *r, struct disk_dir *dd, const char *name);

/* dd/name is not there any more, and users touched it. */
void		 local_gone(struct replica *r, struct disk_dir *dd, const char *name);

/* The attributes of dd/name on disk are those that users set, unless the view has
 * still to set others there. */
void		 local_attrs_at(struct replica *r, struct disk_dir *dd, const char *name);

int		 local_answer(struct replica *r, const struct event *e, char **out);

/* ---- replica_ignore.c: names that stay local ---- */

void		 ignore_load(struct replica *r);
/* At the start: if the rules changed since the last one, what they cover no
 * longer is looked at. */
void		 ignore_catch_up(struct replica *r);
bool		 ignore_covers_at(const struct ignore *ig, const struct disk_dir *dd, const char *name, bool is_dir);
bool		 ignore_at(const struct replica *r, const struct disk_dir *dd, const char *name, bool is_dir);
bool		 ignore_dir(const struct replica *r, const struct dir *d);
bool		 ignore_reg(const struct replica *r, const struct reg *reg);
/* What a user did with names that stay local, or between those and others.
 * False: it is an event as any other. */
bool		 ignore_event(struct replica *r, const struct event *e, struct disk_dir *at, struct disk_dir *to);

/* ---- replica_attr.c: attributes on disk and as cells ---- */

/* What (dirfd, name) has, as cells without stamps.  Where prev says the same in
 * other words (a user by another number), its words are kept. */
void		 disk_attrs_read(struct replica *r, int dirfd, const char *name, const struct stat *st,
		    const struct attrs *prev, struct attrs *out);
/* Makes the file at (dirfd, name) say what a says.  The number of changes, or
 * -errno of the first that failed. */
int		 disk_attrs_apply(struct replica *r, int dirfd, const char *name, const struct stat *st,
		    const struct attrs *a);
/* Would that change anything? */
bool		 disk_attrs_differ(struct replica *r, int dirfd, const char *name, const struct stat *st,
		    const struct attrs *a);

/* ---- replica_marks.c: user.sibfs, best effort ---- */

/* Is to be marked soon. */
void		 marks_file(struct replica *r, const struct reg *reg, const char *name);
void		 marks_dir(struct replica *r, const struct disk_dir *dd);

bool		 marks_due(const struct replica *r);
/* Marks what is due, a part of it; or all that waits.  Without the view lock. */
void		 marks_turn(struct replica *r, bool all);
void		 marks_free(struct replica *r);

/*
 * What user.sibfs says of a file that is as it was when it was set: the dot that
 * it holds and the vector of its register (the caller's).  -ENODATA: it has
 * none; -ESTALE: it is of another file or other content, or malformed.
 */
struct disk_mark {
	uint64_t key;		/* of the register */
	struct dot dot;
	struct vv ctx;
};
int		 disk_mark_read(int dirfd, const char *name, const struct stat *st, struct disk_mark *out);
/* The key of the register `name` in a directory of that identity. */
uint64_t	 disk_mark_key(const struct identity *dir, const char *name);
/* The identities that a directory's attribute names, at most max. */
size_t		 disk_mark_dirs(struct replica *r, struct disk_dir *dd, struct identity *out, size_t max);

/* ---- view.c ---- */

/*
 * Until the next view_update: users see what the state says, and what they did
 * is in it.  To be called before directories of the state change by what a peer
 * says, so that nobody acts upon what is not there any more.
 */
void		 view_hold(struct replica *r);

/* Shows what became complete, and makes the names on disk what the state says. */
void		 view_update(struct replica *r);

/* A pending register that may be complete: the next update looks at it. */
void		 view_defer(struct replica *r, struct reg *reg);

/* The disk could not be made to show it: it is tried again later.  reg may be
 * NULL.  Returns whether that is news. */
bool		 view_again(struct replica *r, struct dir *d, struct reg *reg);

/* Tries again what is due; all: now. */
void		 view_retry(struct replica *r, bool all);

/* ---- content.c ---- */

/* Is the content of every version of r->pending here?  Asks for what is not. */
bool		 content_ready(struct replica *r, struct reg *reg, uint64_t from);
/* Keeps the content of a file that leaves the tree: nothing shows it, but it is
 * live, and may show again or be asked for by a peer. */
void		 content_keep(struct replica *r, int dirfd, const char *name, const struct hash *h);
/* A file leaves the tree for staging/, from where it is put in place anew. */
void		 content_take(struct replica *r, int dirfd, const char *name, const struct hash *h);
int		 content_stage_bytes(struct replica *r, const struct hash *h, uint8_t kind, const void *p, size_t len);
/* A file in staging/ with that content, to be renamed into place. */
int		 content_source(struct replica *r, const struct hash *h, uint8_t kind, char *name, size_t size);
/* It could not be put in place: back to staging. */
void		 content_put_back(struct replica *r, const struct hash *h, const char *name);
void		 content_free(struct replica *r);

/* ---- content_find.c ---- */

/* Does the register show a file of that content already? */
bool		 content_stands(const struct reg *reg, const struct hash *h);
/* A descriptor of a file with that content, opened for reading, or -errno. */
int		 content_open(struct replica *r, const struct hash *h, uint64_t *size);
/* Does it stand in the tree or in staging/, also where only memory knows of it? */
bool		 content_stands_beside(struct replica *r, const struct hash *h);

/* ---- content_clean.c ---- */

/* At the start: what is staged, and who waits for content. */
void		 content_load(struct replica *r);
/* Drops what is staged and not kept: to be called while nothing waits for content. */
void		 content_clean(struct replica *r);
/* Lists of chunks that nothing needs any more are removed, a few at each call. */
void		 content_sweep(struct replica *r);

/* ---- content_wants.c ---- */

/* Content that a name shows went astray: asks for it. */
void		 content_fetch(struct replica *r, const struct reg *reg, const struct version *v);
void		 content_drop_link(struct replica *r, struct link *l);
void		 content_request(struct replica *r);
/* Forgets failed wants that nothing needs any more; all: asks again for the rest. */
void		 content_retry(struct replica *r, bool all);
/* Was what did not fit asked for again, and does it? */
void		 content_check_room(struct replica *r);
uint64_t	 content_wanted(struct replica *r, uint64_t *bytes);
/* Calls fn for each register that waits for what no peer that is linked can send. */
void		 content_nowhere(struct replica *r, void (*fn)(void *arg, const struct reg *reg), void *arg);

/* ---- trash.c ---- */

#define TRASH_NAME_MAX 300

/* Moves dirfd/name to the trash, under a name that tells when, and what it was. */
void		 trash_take(struct replica *r, int dirfd, const char *name, const char *as);
/* The same, telling that name, "" if it could not be done. */
void		 trash_take_as(struct replica *r, int dirfd, const char *name, const char *as, char *to);

/* Bounds the trash by age and size. */
void		 trash_prune(struct replica *r);

/* ---- recycle.c ---- */

/* trash/NAME was a file of reg, with that content. */
void		 recycle_note(struct replica *r, const struct reg *reg, const struct hash *h, const char *trash);
void		 recycle_free(struct replica *r);

/* ---- link.c ---- */

/* p: whom we called.  Else it called us: only: it must be that one, if not NULL. */
struct link	*link_new(struct replica *r, int fd, struct peer *p, const char *only, bool read_only);
void		 link_pump(struct link *l);		/* sends what can be sent */
/* Is it still alive?  If nothing is heard within that time, it ends. */
void		 link_probe(struct link *l, int64_t within_ms);
short		 link_events(struct link *l);		/* to poll for */
int64_t		 link_wait_ms(struct link *l);		/* until a limit lets something through; 0: none holds it */
bool		 link_has_more(const struct link *l);	/* to send at once: it gave others a turn */
int		 link_fd(const struct link *l);
void		 link_ready(struct link *l, short revents);	/* may end and free it */
void		 link_close(struct link *l, const char *state, const char *why);
bool		 link_is_up(const struct link *l);
uint64_t	 link_peer_id(const struct link *l);
void		 link_start_round(struct link *l, uint64_t round);
bool		 link_in_round(const struct link *l);
/* All that the peer knew when it began this round has been told. */
void		 link_round_in(struct link *l, uint64_t round);
void		 link_check_round(struct link *l);	/* has all of it arrived? */
void		 link_changed(struct replica *r);	/* something new for all */
void		 link_pause_changed(struct link *l);
void		 link_tick(struct link *l, int64_t now_ms);
struct link	*link_next(const struct link *l);
bool		 link_is_taking(const struct link *l);	/* a batch or an offer is not settled yet */
void		 link_on_close(struct link *l, void (*fn)(void *arg), void *arg);

/* ---- replica_peers.c ---- */

void		 peers_reload(struct replica *r);
struct peer	*peers_find(struct replica *r, const char *name, bool make);
struct peer	*peers_find_caller(struct replica *r, const char *node, uint64_t id);
/* This host's network changed: peers are called at once, links looked at. */
void		 peers_network_changed(struct replica *r);
void		 peers_tick(struct replica *r, int64_t now_ms);
int64_t		 peers_next_ms(struct replica *r);
/* What peers have, as far as they told, is kept over restarts. */
void		 peers_save(struct replica *r);
void		 peers_load(struct replica *r, struct peer *p);
/* How many bytes per second may go to and from it now; 0: any number. */
uint64_t	 peers_limit(const struct replica *r, const struct peer *p);
bool		 peers_paused(const struct replica *r, const struct peer *p);
const struct settings_peer *peers_settings(const struct replica *r, const struct peer *p);
void		 peers_link_ended(struct replica *r, struct peer *p, const char *state, const char *why);

/* ---- replica_control.c ---- */

void		 control_accept(struct replica *r);
struct control_conn;
int		 control_fd(const struct control_conn *c);
struct control_conn *control_next(struct control_conn *c);
void		 control_ready(struct replica *r, struct control_conn *c);
void		 control_round_done(struct replica *r, uint64_t round, const char *error);
void		 control_link_failed(struct replica *r, struct peer *p, const char *why);
void		 control_tick(struct replica *r, int64_t now_ms);
void		 control_close_all(struct replica *r);
bool		 control_waiting(const struct replica *r);

/* ---- replica_report.c ---- */

json_t		*report_status(struct replica *r);
json_t		*report_conflicts(struct replica *r);

#endif
