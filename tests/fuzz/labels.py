"""Good files of labelled sources, one of each form that is spoilt."""

PICTURE_NOTE = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": 16, "height": 12}],
    "categories": [{"id": 1, "name": "dent"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 4, 5], "iscrowd": 0,
         "segmentation": [[1, 1, 5, 1, 5, 5]]},
        {"id": 2, "image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 5], "iscrowd": 1,
         "segmentation": {"size": [12, 16], "counts": "61X13mN000`0"}},
    ],
}  # fmt: skip
BIN = {"BIN_FCSKU_DATA": {"B1": {"asin": "B1", "quantity": 2, "name": "Cup"}},
       "EXPECTED_QUANTITY": 2, "image_fname": "523.jpg"}  # fmt: skip
VOC = (
    "<annotation><filename>a.jpg</filename><size><width>16</width><height>12</height>"
    "<depth>3</depth></size><object><name>dent</name><difficult>0</difficult><bndbox>"
    "<xmin>1</xmin><ymin>2</ymin><xmax>5</xmax><ymax>6</ymax></bndbox></object></annotation>"
)
YOLO = "path: .\ntrain: images\nval: images\nnc: 2\nnames:\n  0: dent\n  1: rust\n"
LABELME = {
    "version": "5.5.0", "flags": {"dirt": False}, "imagePath": "a.jpg", "imageData": None,
    "imageHeight": 12, "imageWidth": 16,
    "shapes": [
        {"label": "dent", "shape_type": "polygon", "points": [[1, 1], [5, 1], [5, 5.5]]},
        {"label": "dent", "shape_type": "circle", "points": [[8, 6], [8, 9]]},
        {"label": "rust", "shape_type": "linestrip", "points": [[1, 2], [5, 2], [9, 9]]},
    ],
}  # fmt: skip
CVAT = (
    '<annotations><version>1.1</version><image id="0" name="a.jpg" subset="Train" width="16" '
    'height="12"><tag label="bad"/><box label="dent" xtl="1" ytl="2" xbr="5" ybr="6.5" '
    'rotation="30"/><polygon label="dent" points="1,1;5,1;5,5"/><mask label="rust" rle="1, 2, 1" '
    'left="2" top="3" width="2" height="2"/></image></annotations>'
)
