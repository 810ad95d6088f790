"""A folder for weights. It may be the user's, with things in it, and others may add to it: only what was made here is removed."""
import os
import shutil


class Scratch:
    def __init__(self, folder):
        os.makedirs(folder, exist_ok=True)
        self.folder, self.made = folder, []

    def make(self, name):
        """Path of a file or folder that the caller is about to make; what is there already stays the other's."""
        path = os.path.join(self.folder, name)
        if not os.path.lexists(path) and path not in self.made:
            self.made.append(path)
        return path

    def remove(self, path):
        """Unless it was there before."""
        if path not in self.made:
            return
        self.made.remove(path)
        if os.path.isdir(path):
            shutil.rmtree(path)
        elif os.path.lexists(path):
            os.remove(path)

    def remove_made(self):
        for path in list(self.made):
            self.remove(path)
