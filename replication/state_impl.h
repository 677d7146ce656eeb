/*
 * The insides of the state, shared by state.c and the state_*.c.
 */
#ifndef SIBFS_STATE_IMPL_H
#define SIBFS_STATE_IMPL_H

#include "replication/state.h"

#define LIST_ADD(list, array, item) do {						\
	if ((list)->len == (list)->cap) {						\
		(list)->cap = (list)->cap ? 2 * (list)->cap : 16;			\
		(list)->array = mem_resize((list)->array, (list)->cap, sizeof(item));	\
	}										\
	(list)->array[(list)->len++] = (item);						\
} while (0)

/* ---- state_place.c ---- */

/* The directory's value changed: shows it where that says. */
void		 state_relocate(struct state *s, struct dir *d);

/* It shows nowhere. */
void		 state_unlink_dir(struct state *s, struct dir *d);

/* Whether d stands may have changed: tells those above. */
void		 state_recount(struct state *s, struct dir *d);

/* At the end. */
void		 state_free_places(struct state *s);

/* ---- state_order.c ---- */

/* It has another seq, or is dropped. */
void		 state_order(struct state *s, struct dir *d);
void		 state_order_drop(struct state *s, struct dir *d);

#endif
