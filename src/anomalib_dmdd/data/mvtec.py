"""MVTec AD under the short name of ``--data MVTec``."""

from urllib.error import URLError

from anomalib.data import MVTecAD
from anomalib.data.datasets.image.mvtecad import CATEGORIES


class MVTec(MVTecAD):
    """MVTec AD, the same as :class:`anomalib.data.MVTecAD`.

    References:
        Bergmann et al., MVTec AD, CVPR 2019, https://doi.org/10.1109/CVPR.2019.00982

    Example:
        >>> MVTec(category="screw").name
        'MVTecAD'
    """

    @property
    def name(self) -> str:
        """Name of the result folder, the same as for ``--data MVTecAD``."""
        return "MVTecAD"

    def prepare_data(self) -> None:
        """Download MVTec AD unless the category has a folder.

        Raises:
            FileNotFoundError: If the category has no folder and MVTec AD has no such category.
            ConnectionError: If the download fails.
        """
        folder = self.root / self.category
        advice = "`--data.root` is the folder that holds the categories, `--data.category` one of them."
        if not folder.is_dir() and self.category not in CATEGORIES:
            raise FileNotFoundError(f"There is no folder {folder}, and MVTec AD has no such category. {advice}")
        try:
            super().prepare_data()
        except URLError as error:
            msg = f"There is no folder {folder}, and MVTec AD cannot be downloaded: {error.reason}. {advice}"
            raise ConnectionError(msg) from error
