//! What networks and extractors see of a picture, by the look of its dataset.

use std::borrow::Cow;

use metad2a_images::Picture;
use metad2a_pipeline::tasks::Look;

/// The picture in that look, in its own size.
pub(super) fn seen(picture: &Picture, look: Look) -> Cow<'_, Picture> {
    let mut seen = Cow::Borrowed(picture);
    if look.grey {
        seen = Cow::Owned(seen.grey());
    }
    if let Some(pixels) = look.resolution {
        seen = Cow::Owned(seen.blurred(pixels));
    }
    seen
}
