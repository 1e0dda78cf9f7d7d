"""Where does an example come from?"""
