"""What domains are booted from: recipes, the builder, the catalog.

In:     a recipe (`recipes/NAME.toml`), packages of the Debian mirrors that this machine's apt uses, wheels by hash,
        the project's own packages.
Out:    an image: root file system archive, kernel, initrd, disk, and the manifest that names them by digest.
Owns:   the catalog directory; `guest/`, the first programs that run in a domain.
Never:  mounts on the host, leaves a process or a half-built image behind, trusts a file whose digest it has not
        checked, names a mirror.
Source: design "Images"; `docs/decisions/0011-image-format.md`.
"""
