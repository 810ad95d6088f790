/* A replica's ranks acting as one: what its leader says, all do.
 *
 * The leader broadcasts a command and its bytes, then all make the same call of the engine and
 * agree on its code, so a failure on one rank is everybody's. Members wait for the next command
 * under the communicator's deadline: a leader without work must be idle at least every second.
 * Nothing is allocated after group_init. */
#ifndef GROUP_H
#define GROUP_H

#include "coord.h"

enum { GROUP_MAX_IMAGES = 64 }; /* of one command; longer lists of pictures are cut */

struct group {
    const struct coord_params *params; /* borrowed, as are comm and engine */
    struct comm *comm;
    struct engine *engine;
    const struct model_config *cfg;
    int n_encode;          /* pictures a command, at most */
    uint8_t *rgb;          /* [n_encode, px, px, 3] members' copy */
    float *pixels;         /* [n_encode, 3, px, px] */
    int32_t *ids;          /* [max_prompt_tokens] members' copy */
    int32_t *tokens;       /* [n_beams, max_new_tokens] */
    struct answer *answer; /* [n_beams], best first; its tokens lie in `tokens` */
    int64_t busy_us;       /* spent in the engine */
    bool over;             /* of the leader: the members do not follow any more */
};

struct group_prompt {
    const int32_t *ids;
    size_t n_ids;
    const int *slot;
    int n_images;
    int64_t record;
};

int group_init(struct group *g, const struct coord_params *p, struct comm *c, struct engine *e);
void group_release(struct group *g);

/* Of the leader. ERR_INPUT is the record's alone, other codes end the run. */
int group_encode(struct group *g, const uint8_t *const *rgb, const int *slot, int n);
int group_admit(struct group *g, const struct group_prompt *p, int *seq);
int group_generate(struct group *g, const struct group_prompt *p); /* beams; g->answer[0] is it */
int group_advance(struct group *g);
int group_leave(struct group *g, int seq); /* the answer is in g->answer[0] */
/* These two do nothing when the members have left already, after a common failure. */
int group_idle(struct group *g);
/* Ends the members' group_follow, which returns rc and stores `end`. */
int group_end(struct group *g, int rc, enum coord_end end);

/* Of the members. */
int group_follow(struct group *g, enum coord_end *end);

#endif
