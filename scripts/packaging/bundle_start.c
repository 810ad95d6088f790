/* Starts a program of a bundle (scripts/bundle.sh) wherever the bundle was unpacked.
 *
 * ROOT/bin/NAME, this file linked statically, runs ROOT/libexec/NAME through the bundle's own dynamic
 * loader with the bundle's own libraries, and tells Open MPI and PMIx where they are now. So neither
 * the machine's C library nor its MPI is used, and nothing is written into the files. Variables that
 * are set already stay as they are. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOADER "ld-linux-x86-64.so.2"

static const struct {
    const char *name, *below; /* below ROOT */
} variables[] = {
    {"OPAL_PREFIX", ""},
    {"OPAL_BINDIR", "/bin"},
    {"OPAL_LIBDIR", "/lib"},
    {"OPAL_PKGLIBDIR", "/lib/openmpi3"},
    {"OPAL_PKGDATADIR", "/share/openmpi"},
    {"OPAL_DATADIR", "/share"},
    {"OPAL_SYSCONFDIR", "/etc/openmpi"},
    {"PMIX_PREFIX", ""},
    {"PMIX_LIBDIR", "/lib"},
    {"PMIX_PKGLIBDIR", "/lib/pmix2"},
    {"PMIX_PKGDATADIR", "/share/pmix2"},
};

/* ROOT/bin/NAME, by whatever links it was called. */
static int find_self(char root[PATH_MAX], char name[256])
{
    const ssize_t n = readlink("/proc/self/exe", root, PATH_MAX - 1);
    char *slash;

    if (n <= 0)
        return -1;
    root[n] = '\0';
    for (int i = 0; i < 2; i++) {
        slash = strrchr(root, '/');
        if (!slash)
            return -1;
        if (i == 0)
            snprintf(name, 256, "%s", slash + 1);
        *slash = '\0';
    }
    return 0;
}

static void set_environment(const char *root)
{
    char value[PATH_MAX + 64];

    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++) {
        snprintf(value, sizeof value, "%s%s", root, variables[i].below);
        setenv(variables[i].name, value, 0);
    }
    setenv("HOME", "/", 0); /* PMIx does not live through its absence where users have no names */
    /* mpirun refuses to start without a way to other hosts, even for ranks on this one. */
    if (access("/usr/bin/ssh", X_OK) != 0 && access("/bin/ssh", X_OK) != 0 &&
        !getenv("OMPI_MCA_plm_rsh_agent") && !getenv("SLURM_JOB_ID"))
        setenv("OMPI_MCA_plm", "isolated", 0);
}

int main(int argc, char **argv)
{
    char root[PATH_MAX], name[256], loader[PATH_MAX + 64], libraries[PATH_MAX + 64],
        program[PATH_MAX + 300];
    char **args = calloc((size_t)argc + 7, sizeof *args);
    int n = 0;

    if (!args || find_self(root, name) != 0) {
        fprintf(stderr, "%s: /proc is needed to find the bundle\n", argv[0]);
        return 71;
    }
    set_environment(root);
    snprintf(loader, sizeof loader, "%s/lib/" LOADER, root);
    snprintf(libraries, sizeof libraries, "%s/lib", root);
    snprintf(program, sizeof program, "%s/libexec/%s", root, name);
    args[n++] = loader;
    args[n++] = (char *)"--argv0";
    args[n++] = argv[0];
    args[n++] = (char *)"--library-path";
    args[n++] = libraries;
    args[n++] = program;
    for (int i = 1; i < argc; i++)
        args[n++] = argv[i];
    execv(loader, args);
    fprintf(stderr, "%s: %s: %s\n", argv[0], loader, strerror(errno));
    return 71;
}
