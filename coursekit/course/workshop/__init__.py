"""A room without internet: a folder for a USB stick or a share from which machines are set up."""

from coursekit.course.workshop.folder import fill_folder

__all__ = ["fill_folder"]
