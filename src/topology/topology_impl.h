/* What the files of src/topology share. */
#ifndef TOPOLOGY_IMPL_H
#define TOPOLOGY_IMPL_H

#include "topology.h"

/* topology_quota.c: fills the quotas of a zeroed grant. */
void topology_quota_read(struct topology_grant *out, const char *root);

#endif
