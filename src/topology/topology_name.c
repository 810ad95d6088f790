/* What kind of CPU this is, for reports: "model name" of /proc/cpuinfo, which not every architecture
 * has. */
#include "topology.h"

#include <stdio.h>
#include <string.h>

void topology_cpu_name(char out[TOPOLOGY_NAME_BYTES])
{
    FILE *f = fopen("/proc/cpuinfo", "r");
    char line[512];

    snprintf(out, TOPOLOGY_NAME_BYTES, "unknown");
    while (f && fgets(line, sizeof line, f)) {
        const char *colon = strchr(line, ':');

        if (strncmp(line, "model name", 10) != 0 || !colon)
            continue;
        line[strcspn(line, "\n")] = '\0';
        snprintf(out, TOPOLOGY_NAME_BYTES, "%.*s", TOPOLOGY_NAME_BYTES - 1,
                 colon + 1 + strspn(colon + 1, " "));
        break;
    }
    if (f)
        fclose(f);
}
