"""Parts of the decoder of images: file formats, orientations, modes of pixels."""
