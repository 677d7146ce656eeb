/*
 * Makes every link look fast to packing.c, in a sibfs that is otherwise what
 * ships (see t0235): of the time that contents take it hears of a hundredth,
 * and of no pause.
 */
#include "config.h"

#include "replication/packing.h"

void	 __real_packing_sent(struct packing *p, size_t bytes, int64_t now_ms);
void	 __wrap_packing_sent(struct packing *p, size_t bytes, int64_t now_ms);
void	 __wrap_packing_pause(struct packing *p, int64_t now_ms);

void
__wrap_packing_sent(struct packing *p, size_t bytes, int64_t now_ms)
{
	__real_packing_sent(p, bytes, now_ms / 100);
}

void
__wrap_packing_pause(struct packing *p, int64_t now_ms)
{
	(void)p;
	(void)now_ms;
}
