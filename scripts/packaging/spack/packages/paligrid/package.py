"""Spack package of paligrid: `spack repo add scripts/packaging/spack` is enough to install from a checkout:

    spack dev-build paligrid@main source=/path/to/checkout
"""
from spack.package import *


class Paligrid(MakefilePackage):
    """PaliGemma 2 inference in C on MPI ranks: the same bits on any number of ranks."""

    homepage = "https://arxiv.org/abs/2412.03555"
    license("Apache-2.0")

    version("main")

    variant("seccomp", default=True, description="Limit the system calls of the image decoder")
    variant("turbojpeg", default=True, description="JPEG by libjpeg-turbo instead of stb_image")

    depends_on("c", type="build")
    depends_on("cxx", type="build")
    depends_on("gmake", type="build")
    depends_on("pkgconf", type="build")
    depends_on("python", type="build")
    depends_on("mpi")
    depends_on("hdf5+hl")
    depends_on("jansson")
    depends_on("libwebp+libwebpdemux")
    depends_on("libjpeg-turbo", when="+turbojpeg")
    depends_on("libseccomp", when="+seccomp")
    depends_on("libarchive")
    depends_on("openssl")
    depends_on("sentencepiece")
    depends_on("stb")
    depends_on("xxhash")

    def make_arguments(self):
        return [
            f"MPICC={self.spec['mpi'].mpicc}",
            f"CC={spack_cc}",
            f"PYTHON={self.spec['python'].command.path}",
            f"PREFIX={self.prefix}",
        ]

    def build(self, spec, prefix):
        make(*self.make_arguments())

    def install(self, spec, prefix):
        make("install", *self.make_arguments())

    def test_version(self):
        """the program starts"""
        Executable(self.prefix.bin.paligrid)("info")

    def test_demo(self):
        """the bundled model answers"""
        demo = join_path(self.prefix.share, "paligrid", "demo")
        out = Executable(self.prefix.bin.paligrid)(
            "run", "--model", join_path(demo, "model"), "--prompt", "caption en",
            join_path(demo, "images", "01_one_112.png"), output=str)
        assert out.strip()
